//! The embedded store's disk fills up, or a second process wants it.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use harness::{
    calls::{client, pull_all, send},
    program::{Program, run},
};

const RPC_SERVER: &str = env!("CARGO_BIN_EXE_rpc-server");

#[test]
fn a_second_process_on_the_same_path_is_refused_with_a_sentence() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = format!("embedded:{}", dir.path().display());
    let args = ["--rpc-addr", "127.0.0.1:0", "--store", &store];
    let _first = Program::serve(RPC_SERVER, &args);
    let (status, _, complaint) = run(RPC_SERVER, &args);
    assert!(!status.success());
    assert!(complaint.contains(&store) && complaint.contains("another process has this store open"), "{complaint}");
}

/// A limit on the size of files stands for a full disk: writes fail until it is lifted.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_503_loses_nothing_acknowledged_and_heals_when_there_is_room() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = format!("embedded:{}", dir.path().display());
    // With the signal ignored, a write over the limit is an error, as on a full disk.
    let mut command = Command::new("sh");
    command.args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#, RPC_SERVER, "--rpc-addr", "127.0.0.1:0", "--store", &store]);
    let server = Program::serve_command(&mut command);
    let client = client(server.rpc());
    let mut acknowledged = Vec::new();
    for i in 0..20 {
        acknowledged.push(i.to_string());
        assert_eq!(send(&client, "a:b", &acknowledged[i], "a").await.0, 0);
    }

    limit_file_size(&server, "1");
    assert_eq!(send(&client, "a:b", "no room", "a").await.0, 503);
    let start = Instant::now();
    assert_eq!(send(&client, "a:b", "no room", "a").await.0, 503);
    assert!(start.elapsed() < Duration::from_secs(1));

    limit_file_size(&server, "unlimited");
    let start = Instant::now();
    while send(&client, "a:b", "room again", "a").await.0 != 0 {
        assert!(start.elapsed() < Duration::from_secs(5), "it does not heal: {}", server.logs().join("\n"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let stored: Vec<_> = pull_all(&client, "a:b").await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(stored[..acknowledged.len()], acknowledged);
    assert_eq!(stored.last().map(String::as_str), Some("room again"));
}

fn limit_file_size(server: &Program, bytes: &str) {
    let pid = server.pid().to_string();
    let set = Command::new("prlimit").args([&format!("--fsize={bytes}:"), "--pid", &pid]).status();
    assert!(set.expect("prlimit runs").success());
}
