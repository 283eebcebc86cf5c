//! Files: what is changed in one is found where it is.

use super::*;

/// The number of the line that a byte is on.
fn line_of(file: &[u8], at: usize) -> usize {
    file[..at].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Changes the byte at a place to every bit's worth of something else, and looks whether that is found where it is.
fn each_change_is_found(file: &[u8], at: usize, rng: &mut Rng) {
    let other = u8::try_from(rng.below(255).unwrap()).unwrap();
    let mut changed = file.to_vec();
    changed[at] = changed[at].wrapping_add(1 + other);
    let verdict = verify(&changed, Some(&[key().public()]), None);
    let context = String::from_utf8_lossy(&file[at.saturating_sub(30)..file.len().min(at + 30)]);
    assert!(!verdict.holds(), "byte {at} made {:?} in {context}", changed[at]);
    let first = &verdict.faults[0];
    assert_eq!(first.place.line, line_of(file, at), "byte {at} made {:?} in {context}: {first}", char::from(changed[at]));
}

#[test]
fn an_export_is_the_same_twice_and_verifies_with_the_key_alone() {
    let bundle = rehearsal();
    let file = bundle.exported(&key());
    assert_eq!(file, rehearsal().exported(&key()), "equal histories give equal bytes");
    let verdict = verify(file.as_bytes(), Some(&[key().public()]), None);
    assert_eq!((verdict.faults.clone(), verdict.key_known, verdict.report), (vec![], Some(true), None));
    assert_eq!(verdict.runs.len(), 2);
    assert_eq!(verify(file.as_bytes(), None, None).key_known, None, "without a key nobody can say whose it is");
    let stranger = SigningKey::from_seed(&[9; 32]).unwrap().public();
    let unknown = verify(file.as_bytes(), Some(&[stranger]), None);
    assert_eq!((unknown.faults.clone(), unknown.key_known, unknown.holds()), (vec![], Some(false), false));
    assert_eq!(evidence::open(file.as_bytes()).unwrap().bundle, bundle);
}

#[test]
fn every_changed_byte_of_a_file_is_found_where_it_is() {
    let bundle = rehearsal();
    let report = bundle.reported(&key());
    let page = bundle.reported_as_page(&key());
    for file in [bundle.exported(&key()), report, page] {
        assert!(verify(file.as_bytes(), Some(&[key().public()]), None).holds());
        let seeds: Vec<u64> = (0..16).collect();
        for_each(&seeds, |seed| {
            let mut rng = Rng::new(seed);
            for _ in 0..25 {
                let at = usize::try_from(rng.below(file.len() as u64).unwrap()).unwrap();
                each_change_is_found(file.as_bytes(), at, &mut rng);
            }
        });
    }
}

#[test]
fn every_byte_of_the_short_records_counts() {
    let bundle = rehearsal();
    let file = bundle.reported(&key());
    let lines: Vec<&str> = file.split_inclusive('\n').collect();
    let begins = |number: usize| lines[..number].iter().map(|line| line.len()).sum::<usize>();
    let short = |at: &usize| !lines[*at].starts_with("{\"event\"") && !lines[*at].starts_with("{\"report\"");
    let places: Vec<usize> = (0..lines.len()).filter(short).flat_map(|number| begins(number)..begins(number + 1)).collect();
    for_each(&places, |at| each_change_is_found(file.as_bytes(), at, &mut Rng::new(at as u64)));
}

#[test]
fn what_is_changed_with_care_is_named_by_run_event_and_field() {
    let bundle = rehearsal();
    let file = bundle.reported(&key());
    let found = |file: &str| verify(file.as_bytes(), None, None).faults;
    let run = bundle.runs()[0].run;
    let event = file.lines().find(|line| line.contains("\\\"by\\\"") || line.contains("requested_by")).unwrap();
    let forged = file.replace(event, &event.replace("ada", "eve"));
    assert_eq!(found(&forged)[0].place.what, Part::Event { run: Some(run), seq: Seq(0) });
    let forged = file.replace("\"result\":\"passed\"", "\"result\":\"failed\"");
    assert_eq!(found(&forged)[0].place.what, Part::Report { field: "conclusion.result".into() });
    let dropped: Vec<&str> = file.lines().filter(|line| !line.starts_with("{\"event\":{\"seq\":5,")).collect();
    assert_eq!(found(&(dropped.join("\n") + "\n"))[0].place.what, Part::Event { run: Some(run), seq: Seq(5) });
    let unreported: Vec<&str> = file.lines().filter(|line| !line.starts_with("{\"report\"")).collect();
    assert_eq!(found(&(unreported.join("\n") + "\n"))[0].place.what, Part::Signature);
    let newer = file.replacen("\"v\":1", "\"v\":2", 1);
    assert!(found(&newer)[0].why.contains("use a newer switchback"), "{:?}", found(&newer));
    assert_eq!(found(&format!("{file}\n"))[0].place.line, file.lines().count() + 1, "nothing stands behind the end");
    assert_eq!((found("").len(), found("[\n]\n").len(), found("{}\n").len()), (1, 1, 1));
}

#[test]
fn a_report_of_another_build_stays_as_it_was_signed_and_a_false_one_of_this_build_is_found() {
    let (honest, false_one) = (disaster(), |build: &str| {
        let about = disaster();
        let bundle = Bundle::new(build, about.about(), Stated::default(), about.runs().to_vec()).unwrap();
        let mut report = bundle.report();
        report.conclusion.sentence = "It went well.".into();
        bundle.reported_as(&report, &key())
    });
    let other = verify(false_one("0.0.1").as_bytes(), Some(&[key().public()]), None);
    assert_eq!((other.holds(), other.report), (true, Some(ReportCheck::DerivedOtherwise { build: "0.0.1".into() })));
    let ours = verify(false_one(honest.build()).as_bytes(), Some(&[key().public()]), None);
    assert_eq!(ours.faults[0].place.what, Part::Report { field: "conclusion.sentence".into() });
    let changed = false_one("0.0.1").replace("It went well.", "It went bad.");
    assert!(!verify(changed.as_bytes(), None, None).holds());
}

#[test]
fn a_history_written_anew_by_whoever_has_the_key_is_found_by_an_anchor() {
    let honest = disaster();
    let anchors: Vec<Head> = verify(honest.exported(&key()).as_bytes(), None, None).runs;
    let mut forged = History::new(honest.about());
    for stored in &honest.runs()[0].events {
        let mut event = stored.event.clone();
        if let sdk::EventBody::Inbound(sdk::Inbound::RunStarted { requested_by, .. }) = &mut event.body {
            "eve".clone_into(requested_by);
        }
        forged.push(event);
    }
    let file = bundle(vec![forged]).reported(&key());
    assert!(verify(file.as_bytes(), Some(&[key().public()]), None).holds(), "by itself nothing tells it from the truth");
    let verdict = verify(file.as_bytes(), Some(&[key().public()]), Some(&anchors));
    assert!(!verdict.holds() && verdict.faults[0].why.contains("written anew"), "{:?}", verdict.faults);
    let kept = verify(honest.reported(&key()).as_bytes(), Some(&[key().public()]), Some(&anchors));
    assert_eq!((kept.holds(), kept.anchored), (true, Some(1)));
}
