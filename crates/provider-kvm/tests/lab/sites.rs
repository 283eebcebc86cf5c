//! Two libvirt sites, by `cargo xtask lab up`; they go when this test process goes.

use std::{
    path::PathBuf,
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use switchback_provider_kvm::TlsIdentity;
use serde::Deserialize;

/// A site.
#[derive(Debug, Clone, Deserialize)]
pub struct Place {
    pub name: String,
    pub netns: String,
    pub uri: String,
    pub root: PathBuf,
    pub images: PathBuf,
}

/// Both sites, and the certificate that all agents of the lab share.
pub struct Sites {
    /// The lab's own directory.
    pub dir: PathBuf,
    pub a: Place,
    pub b: Place,
    pub identity: TlsIdentity,
    count: AtomicU32,
}

#[derive(Deserialize)]
struct LabRecord {
    sites: Vec<Place>,
}

impl Sites {
    pub fn unique_name(&self) -> String {
        format!("m{}", self.count.fetch_add(1, Ordering::SeqCst))
    }

    fn up() -> Self {
        let dir = std::env::temp_dir().join(format!("sbk{}", std::process::id()));
        let owner = std::process::id().to_string();
        let mut command = xtask();
        command.args(["lab", "up", "--owner", &owner, "--json", "--dir"]).arg(&dir);
        let output = command.output().expect("the lab's program can be started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the lab does not come up: {said}");
        let record: LabRecord = serde_json::from_slice(&output.stdout).expect("the lab describes itself");
        let [a, b] = <[Place; 2]>::try_from(record.sites).expect("the lab has two sites");
        Self { dir, a, b, identity: identity(), count: AtomicU32::new(0) }
    }
}

/// The workspace's task runner, through cargo: it is rebuilt if it has changed.
pub fn xtask() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--package", "switchback-xtask", "--"]);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

fn identity() -> TlsIdentity {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let mut authority = CertificateParams::new(vec![]).expect("no names are valid names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key is made")).expect("the authority is made");
    let key = KeyPair::generate().expect("a key is made");
    let agent = CertificateParams::new(vec!["agent.lab".to_owned()]).expect("the name is valid");
    let certificate = agent.signed_by(&key, &ca).expect("the certificate is made");
    TlsIdentity { ca_pem: ca.pem(), cert_pem: certificate.pem(), key_pem: key.serialize_pem(), name: "agent.lab".to_owned() }
}

/// The sites, or `None` where this machine can't have them. With `SWITCHBACK_REQUIRE_KVM=1` that is a failure.
pub fn requirements(case: &str) -> Option<&'static Sites> {
    static SITES: OnceLock<Sites> = OnceLock::new();
    let programs = ["libvirtd", "qemu-system-x86_64", "qemu-img", "qemu-nbd", "virsh"];
    let root = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    let missing = programs.iter().find(|program| {
        let dirs = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/bin"];
        !dirs.iter().any(|dir| std::path::Path::new(dir).join(program).exists())
    });
    if root && missing.is_none() {
        return Some(SITES.get_or_init(Sites::up));
    }
    let required = std::env::var("SWITCHBACK_REQUIRE_KVM").is_ok_and(|value| value == "1");
    assert!(!required, "{case} needs root and QEMU; missing: {missing:?}");
    eprintln!("SKIPPED (needs root and QEMU): {case}");
    None
}
