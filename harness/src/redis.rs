//! A redis-server of a test's own.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::{free_port, signal, wait_until};

/// A running redis-server, with its data in a directory of its own. Ended when it is dropped.
pub struct RedisServer {
    port: u16,
    dir: TempDir,
    args: Vec<String>,
    child: Child,
}

impl RedisServer {
    /// Starts one that keeps nothing on disk.
    pub fn start() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "no"])
    }

    /// Starts one that has every write on disk before it answers.
    pub fn start_durable() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Starts one with these arguments.
    pub fn start_with(args: &[&str]) -> Self {
        let (port, dir) = (free_port(), tempfile::tempdir().expect("a temporary directory"));
        let args: Vec<_> = args.iter().map(ToString::to_string).collect();
        let child = spawn(port, &dir, &args);
        let server = Self { port, dir, args, child };
        server.wait_until_it_answers();
        server
    }

    /// Its URL for `--store`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    /// Starts it again on the same port and data. Returns once it answers.
    pub fn restart(&mut self) {
        self.child = spawn(self.port, &self.dir, &self.args);
        self.wait_until_it_answers();
    }

    /// Stops its process where it stands; [`resume`](Self::resume) lets it go on.
    pub fn pause(&self) {
        signal("-STOP", self.child.id());
    }

    /// Lets a paused process go on.
    pub fn resume(&self) {
        signal("-CONT", self.child.id());
    }

    /// What it answers to a command, as Redis's protocol has it.
    pub fn command(&self, words: &[&str]) -> String {
        self.try_command(words).expect("Redis answers")
    }

    fn try_command(&self, words: &[&str]) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        request += "*1\r\n$4\r\nQUIT\r\n";
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn wait_until_it_answers(&self) {
        wait_until("redis-server", || {
            // Whom it does not know, it refuses: it is up, too.
            self.try_command(&["PING"]).is_ok_and(|a| a.starts_with("+PONG") || a.starts_with("-NOAUTH"))
        });
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: u16, dir: &TempDir, args: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"])
        .arg(dir.path())
        .args(args)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server runs: install Debian's package redis-server")
}
