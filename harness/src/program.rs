//! One of this project's programs as a process.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use crate::{signal, wait_until};

/// A running server program. Ended when it is dropped.
pub struct Program {
    child: Child,
    logs: Arc<Mutex<Vec<String>>>,
    serving: serde_json::Value,
}

impl Program {
    /// Starts a server program and waits until it serves. Its ports come from its own log, so give it port 0.
    pub fn serve(path: &str, args: &[&str]) -> Self {
        Self::serve_command(Command::new(path).args(args))
    }

    /// The same, with a machine clock that is wrong by `offset` ("+5s", "-5s").
    pub fn serve_with_clock(offset: &str, path: &str, args: &[&str]) -> Self {
        Self::serve_command(Command::new(path).args(args).env("LD_PRELOAD", libfaketime()).env("FAKETIME", offset))
    }

    /// The same, from a command with whatever else it needs.
    pub fn serve_command(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let logs = Arc::new(Mutex::new(Vec::new()));
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let collected = logs.clone();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                collected.lock().expect("not poisoned").push(line);
            }
        });
        let mut program = Self { child, logs, serving: serde_json::Value::Null };
        wait_until("the program serves", || {
            let ended = program.child.try_wait().expect("known");
            assert!(ended.is_none(), "the program ended: {ended:?}: {}", program.logs().join("\n"));
            let line = program.logs().into_iter().find(|l| l.contains(r#""message":"serving""#));
            program.serving = line.and_then(|l| serde_json::from_str(&l).ok()).unwrap_or_default();
            program.serving.is_object()
        });
        program
    }

    /// Where it serves Thrift.
    pub fn rpc(&self) -> SocketAddr {
        self.addr("rpc")
    }

    /// Where it serves HTTP.
    pub fn http(&self) -> SocketAddr {
        self.addr("http")
    }

    fn addr(&self, name: &str) -> SocketAddr {
        let addr: SocketAddr = self.serving[name].as_str().and_then(|a| a.parse().ok()).expect("it says where");
        SocketAddr::from(([127, 0, 0, 1], addr.port()))
    }

    /// The lines that it has logged.
    pub fn logs(&self) -> Vec<String> {
        self.logs.lock().expect("not poisoned").clone()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    /// Lets it hang: it takes connections and answers nothing.
    pub fn pause(&self) {
        signal("-STOP", self.child.id());
    }

    /// Lets a paused process go on.
    pub fn resume(&self) {
        signal("-CONT", self.child.id());
    }

    /// Asks it to stop (SIGTERM) and waits; returns how it ended and how long it took.
    pub fn stop(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        signal("-TERM", self.child.id());
        let mut ended = None;
        while ended.is_none() {
            assert!(start.elapsed() < Duration::from_secs(20), "it does not stop");
            thread::sleep(Duration::from_millis(5));
            ended = self.child.try_wait().expect("known");
        }
        (ended.expect("ended"), start.elapsed())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end: its exit status, what it printed and what it complained.
pub fn run(path: &str, args: &[&str]) -> (ExitStatus, String, String) {
    let out = Command::new(path).args(args).output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (out.status, text(out.stdout), text(out.stderr))
}

fn libfaketime() -> PathBuf {
    let dirs = std::fs::read_dir("/usr/lib").expect("/usr/lib").flatten().map(|d| d.path().join("faketime"));
    let found = dirs.map(|dir| dir.join("libfaketime.so.1")).find(|lib| Path::exists(lib));
    found.expect("libfaketime: install Debian's package libfaketime")
}
