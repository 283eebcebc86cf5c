//! Two builds of the product beside each other.

#![allow(clippy::unwrap_used, reason = "a test panics where its sentence does not hold")]

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use serde_json::Value;
use switchback_tests::product::{Product, Running, program, wait_until};

const PROTECT: [&str; 8] = ["protect", "db9", "--from", "a", "--to", "b", "--interval", "1s"];

/// The executable as another build of the same length would be: what it says of the code that decides is something else.
fn of_another_build(product: &Product) -> (PathBuf, String) {
    let ours = workflows::BUILD;
    let other = format!("{}{}", &ours[..ours.len() - 9], "yesterday");
    let mut bytes = fs::read(program("switchback")).unwrap();
    let places: Vec<usize> = bytes.windows(ours.len()).enumerate().filter(|(_, window)| *window == ours.as_bytes()).map(|(place, _)| place).collect();
    assert!(!places.is_empty(), "an executable has the name of its build in it");
    for place in places {
        bytes[place..place + ours.len()].copy_from_slice(other.as_bytes());
    }
    let path = product.dir().join("switchback-of-yesterday");
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    (path, other)
}

fn builds(product: &Product) -> Vec<(String, bool, i64)> {
    let listed = product.ask(&["build", "list"]);
    let row = |build: &Value| (build["build"].as_str().unwrap().to_owned(), build["newest"].as_bool().unwrap(), build["workers"].as_i64().unwrap());
    listed["items"].as_array().unwrap().iter().map(row).collect()
}

#[test]
fn a_worker_of_yesterdays_build_beside_todays_takes_no_run_until_somebody_prefers_it() {
    let mut product = Product::start("builds", &[]);
    product.host_simulated_sites(&[]);
    let today = workflows::BUILD.to_owned();
    assert_eq!(builds(&product), [(today.clone(), true, 2)]);
    let (path, yesterday) = of_another_build(&product);
    let environment = fs::read(format!("/proc/{}/environ", product.pid("worker-1").unwrap())).unwrap();
    let url = environment.split(|byte| *byte == 0).find_map(|pair| pair.strip_prefix(b"SWITCHBACK_DATABASE_URL=")).unwrap();
    let mut command = Command::new(path);
    command.args(["worker", "--name", "of-yesterday", "--lease-seconds", "3", "--state-dir"]).arg(product.state_dir());
    command.env("SWITCHBACK_DATABASE_URL", String::from_utf8_lossy(url).into_owned());
    let _worker = Running::start(command, &product.dir().join("of-yesterday.log"));
    wait_until("the other build to be known", || (builds(&product).len() == 2).then_some(()));
    assert_eq!(builds(&product), [(yesterday.clone(), true, 1), (today.clone(), false, 2)], "what is seen for the first time is an upgrade");

    let unknown = product.say(&["build", "prefer", "of-nobody"]);
    assert_ne!(unknown.code, 0, "{unknown:?}");
    assert!(unknown.err.contains("nothing has changed") && unknown.err.contains(&today), "{unknown:?}");
    drop(product.ask(&["build", "prefer", &today]));
    assert_eq!(builds(&product), [(today, true, 2), (yesterday.clone(), false, 1)]);
    let writers = |words: &[&str]| -> Vec<String> {
        let run = product.begin(words);
        let view = product.ended(&run);
        assert_eq!(view["state"], "completed", "{view}");
        product.events(&run).iter().map(|event| product.worker_named(event["worker"].as_str().unwrap()).unwrap()).collect()
    };
    for words in [&PROTECT[..], &["unprotect", "db9"], &PROTECT, &["unprotect", "db9"]] {
        let writers = writers(words);
        assert!(!writers.contains(&"of-yesterday".to_owned()), "{writers:?}");
    }
    drop(product.ask(&["build", "prefer", &yesterday]));
    let writers = writers(&PROTECT);
    assert!(writers.iter().all(|writer| writer == "of-yesterday"), "{writers:?}");
    wait_until("the others to say so", || product.log().contains("this worker's build is not the newest").then_some(()));
}
