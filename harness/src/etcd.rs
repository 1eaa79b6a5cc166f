//! An etcd of a test's own.

use std::{
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::{free_port, http::request, wait_until};

/// A running etcd, with its data in a directory of its own. Ended when it is dropped.
pub struct EtcdServer {
    port: u16,
    peer_port: u16,
    dir: TempDir,
    child: Child,
}

impl EtcdServer {
    /// Starts one without any data.
    pub fn start() -> Self {
        let (port, peer_port, dir) = (free_port(), free_port(), tempfile::tempdir().expect("a temporary directory"));
        let child = spawn(port, peer_port, &dir);
        let server = Self { port, peer_port, dir, child };
        server.wait_until_it_answers();
        server
    }

    /// Its address for `--etcd`.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    /// Starts it again on the same port and data.
    pub fn restart(&mut self) {
        self.child = spawn(self.port, self.peer_port, &self.dir);
        self.wait_until_it_answers();
    }

    /// Starts it again on the same port, with nothing of what it knew.
    pub fn restart_empty(&mut self) {
        self.dir = tempfile::tempdir().expect("a temporary directory");
        self.restart();
    }

    fn wait_until_it_answers(&self) {
        let addr = SocketAddr::from(([127, 0, 0, 1], self.port));
        wait_until("etcd is healthy", || {
            self.child_lives();
            TcpStream::connect(addr).is_ok() && request(addr, "GET /health HTTP/1.1", b"").text().contains("true")
        });
    }

    fn child_lives(&self) {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        assert!(!stat.is_empty() && !stat.contains(") Z "), "etcd ended");
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: u16, peer_port: u16, dir: &TempDir) -> Child {
    let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer_port}"));
    Command::new("etcd")
        .arg("--data-dir")
        .arg(dir.path())
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("etcd is installed (Debian: etcd-server)")
}
