//! Starts real servers for the tests, on free ports of 127.0.0.1, and always ends them: [`redis::RedisServer`],
//! [`etcd::EtcdServer`], this project's own programs ([`program::Program`]), and what tests say to them ([`http`],
//! [`thrift`], [`calls`], [`hostile`]).
//!
//! A test that cannot have its server fails; nothing is skipped.

pub mod calls;
pub mod etcd;
pub mod hostile;
pub mod http;
pub mod program;
pub mod redis;
pub mod thrift;

use std::{
    net::TcpListener,
    process::Command,
    time::{Duration, Instant},
};

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

/// Asks again until `ready` says yes; panics, saying `what`, after ten seconds.
pub fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}: not within 10 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal(name: &str, pid: u32) {
    let ended = Command::new("kill").args([name, &pid.to_string()]).status().expect("kill runs");
    assert!(ended.success(), "kill {name} {pid}");
}
