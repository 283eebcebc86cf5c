//! The private cluster: one user at a time, and nothing of it outlives the one who started it for long.
#![expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]

use std::{fs, process::Child, time::Duration};

use switchback_store::{
    cluster::{Cluster, ClusterError},
    testing::short_dir,
};

const LIMIT: Duration = Duration::from_secs(60);

fn started(cluster: &Cluster) -> Child {
    let mut postmaster = cluster.postmaster();
    postmaster.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
}

#[tokio::test]
async fn a_cluster_has_one_user_and_a_postmaster_that_was_left_behind_is_stopped() {
    let dir = short_dir("sb-cluster");
    let cluster = Cluster::prepare(&dir).unwrap();
    let mut left_behind = started(&cluster);
    cluster.ready(LIMIT).await.unwrap();
    assert!(matches!(Cluster::prepare(&dir), Err(ClusterError::InUse { .. })), "somebody uses it");
    drop(cluster);
    let again = Cluster::prepare(&dir).unwrap();
    assert!(left_behind.wait().unwrap().success(), "it was shut down in order");
    let mut second = started(&again);
    again.ready(LIMIT).await.unwrap();
    drop(again);
    drop(Cluster::prepare(&dir).unwrap());
    second.wait().unwrap();
    fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn a_path_that_is_too_long_for_a_socket_is_named() {
    let dir = short_dir(&"long-".repeat(20));
    let refused = Cluster::prepare(&dir).unwrap_err();
    assert!(matches!(&refused, ClusterError::SocketPath { .. }), "{refused}");
    fs::remove_dir_all(&dir).unwrap();
}
