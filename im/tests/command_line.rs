//! `im` as a person or a script uses it.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use harness::{
    http::{Connection, request},
    program::{Program, run},
};
use tempfile::TempDir;

const IM: &str = env!("CARGO_BIN_EXE_im");

fn serve(dir: &TempDir) -> Program {
    serve_on(dir, "127.0.0.1:0")
}

fn serve_on(dir: &TempDir, rpc_addr: &str) -> Program {
    let store = format!("embedded:{}", dir.path().join("data").display());
    Program::serve(IM, &["--rpc-addr", rpc_addr, "--http-addr", "127.0.0.1:0", "--store", &store])
}

fn temp_dir() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

#[test]
fn without_a_command_it_serves() {
    let dir = temp_dir();
    let server = serve(&dir);
    assert_eq!(request(server.http(), "GET /ping HTTP/1.1", b"").status, 200);
}

#[test]
fn what_is_sent_can_be_pulled() {
    let dir = temp_dir();
    let server = serve(&dir);
    let target = server.rpc().to_string();
    let im = |args: &[&str]| run(IM, &[args, &["--rpc-target", &target]].concat());
    for text in ["one", "two\nlines \u{1b}[31m", "three"] {
        let (status, out, _) = im(&["send", "alice:bob", text, "--as", "alice"]);
        assert!(status.success() && out.is_empty());
    }
    let (status, out, _) = im(&["pull", "bob:alice"]);
    let said: Vec<_> = out.lines().filter_map(|line| line.split_once(' ')).map(|(_, said)| said).collect();
    assert!(status.success());
    assert_eq!(said, ["alice: one", r"alice: two\nlines \u{1b}[31m", "alice: three"]);

    let (_, out, complaint) = im(&["pull", "bob:alice", "--limit", "1", "--reverse"]);
    assert!(out.ends_with("alice: three\n") && complaint.contains("--cursor"), "{out} {complaint}");

    let (status, _, complaint) = im(&["send", "alice:bob", "x", "--as", "eve"]);
    assert!(!status.success());
    assert_eq!(complaint, "error: sender must be one of the chat's two members (400)\n");
}

#[test]
fn follow_goes_on_over_a_restart_of_the_server_and_neither_repeats_nor_misses() {
    let dir = temp_dir();
    let port = harness::free_port().to_string();
    let addr = format!("127.0.0.1:{port}");
    let mut server = serve_on(&dir, &addr);
    let send = |text: &str| run(IM, &["send", "a:b", text, "--as", "a", "--rpc-target", &addr]).0.success();
    assert!(send("0") && send("1"));
    let mut following = Command::new(IM)
        .args(["pull", "a:b", "--follow", "--limit", "1", "--rpc-target", &addr])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("im starts");
    let mut lines = BufReader::new(following.stdout.take().expect("piped")).lines();
    let mut next = || lines.next().expect("a line").expect("readable").rsplit(' ').next().map(str::to_owned);
    assert_eq!([next(), next()], ["0", "1"].map(|s| Some(s.to_owned())));
    assert!(send("2"));
    assert_eq!(next().as_deref(), Some("2"));
    server.kill();
    let _server = serve_on(&dir, &addr);
    assert!(send("3") && send("4"));
    assert_eq!([next(), next()], ["3", "4"].map(|s| Some(s.to_owned())));
    following.kill().expect("killed");
    following.wait().expect("ended");
}

#[test]
fn a_wrong_start_says_what_is_wrong_and_what_is_allowed() {
    let dir = temp_dir();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("known").to_string();
    let no_dir = dir.path().join("file");
    std::fs::write(&no_dir, "x").expect("written");
    let no_dir = format!("embedded:{}", no_dir.display());
    let rows: &[(&[&str], &[&str])] = &[
        (&["--rpc-addr", &taken], &["--rpc-addr", &taken, "in use"]),
        (&["--http-addr", &taken, "--rpc-addr", "127.0.0.1:0"], &["--http-addr", &taken, "in use"]),
        (&["--rpc-addr", "nonsense"], &["--rpc-addr", "nonsense", "host:port"]),
        (&["--store", "mysql://x"], &["--store", "mysql://x", "embedded:PATH", "redis://"]),
        (&["--store", &no_dir, "--rpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"], &["--store", &no_dir]),
        (&["--page-messages-max", "0"], &["--page-messages-max", "0"]),
        (&["--store-timeout", "soon"], &["--store-timeout", "soon"]),
        (&["--log", "info,=="], &["--log"]),
        (&["--config", "/nowhere.toml"], &["--config", "/nowhere.toml"]),
        (&["--no-such-option"], &["--no-such-option"]),
    ];
    for (args, says) in rows {
        let (status, out, complaint) = run(IM, args);
        assert!(!status.success(), "{args:?}");
        assert!(says.iter().all(|word| complaint.contains(word)), "{args:?}: {complaint}");
        assert!(!complaint.contains("backtrace") && out.is_empty(), "{complaint}");
    }
}

#[test]
fn a_flag_beats_the_environment_and_that_the_file() {
    let dir = temp_dir();
    let file = dir.path().join("im.toml");
    std::fs::write(&file, "text_bytes_max = 1\npage-messages-max = 2\nlog_format = 'json'\n").expect("written");
    let store = format!("embedded:{}", dir.path().join("data").display());
    let mut command = Command::new(IM);
    command.args(["serve", "--rpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--store", &store]);
    command.args(["--text-bytes-max", "3"]).env("IM_TEXT_BYTES_MAX", "2").env("IM_CONFIG", &file);
    let server = Program::serve_command(&mut command);
    let send =
        |text: &str| request(server.http(), &format!("POST /api/send?chat=a:b&sender=a&text={text} HTTP/1.1"), b"");
    assert_eq!(send("xxxx").status, 413);
    for _ in 0..3 {
        assert_eq!(send("xxx").status, 200);
    }
    let page = request(server.http(), "GET /api/pull?chat=a:b HTTP/1.1", b"").json();
    assert_eq!(page["messages"].as_array().map(Vec::len), Some(2), "the file's maximum");
}

#[test]
fn help_names_every_option_three_times_with_its_default() {
    let (status, help, _) = run(IM, &["serve", "--help"]);
    assert!(status.success());
    for words in [
        ["--rpc-addr", "IM_RPC_ADDR", "[file: rpc_addr]", "127.0.0.1:8888"],
        ["--http-addr", "IM_HTTP_ADDR", "[file: http_addr]", "127.0.0.1:8080"],
        ["--store", "IM_STORE", "[file: store]", "embedded:./data"],
        ["--log-format", "IM_LOG_FORMAT", "[file: log_format]", "json"],
    ] {
        assert!(words.iter().all(|word| help.contains(word)), "{words:?} is not in {help}");
    }
}

#[test]
fn the_readmes_table_of_options_is_what_help_says() {
    let readme = include_str!("../../README.md");
    let rows: Vec<_> = readme.lines().filter(|line| line.starts_with("| `--")).collect();
    assert!(rows.len() > 10);
    for row in rows {
        let cells: Vec<_> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let [_, flag, variable, programs, default, _] = cells[..] else { panic!("{row}") };
        let command = if programs.contains("im pull") { "pull" } else { "serve" };
        let (_, help, _) = run(IM, &[command, "--help"]);
        let name = flag.strip_prefix("--").expect("a flag");
        let about = help.split("\n      --").find(|option| option.starts_with(&format!("{name} <")));
        let about = about.unwrap_or_default();
        assert!(about.contains(&format!("[env: {variable}")), "{row}: {about}");
        let default = default.split([' ', ';', ',']).next().expect("some");
        let said = about.contains(&format!("[default: {default}]")) || ["none", "text"].contains(&default);
        assert!(said, "{row}: {about}");
    }
}

#[test]
fn sigterm_lets_a_request_in_flight_finish_and_exits_0() {
    let dir = temp_dir();
    let mut server = serve(&dir);
    let _idle = Connection::open(server.http());
    let mut kept = Connection::open(server.http());
    assert_eq!(kept.request("GET /ping HTTP/1.1", b"").status, 200);
    let body = br#"{"chat":"a:b","text":"late","sender":"a"}"#;
    let mut slow = Connection::open(server.http());
    slow.write(format!("POST /api/send HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes());
    slow.write(&body[..5]);
    thread::sleep(Duration::from_millis(100));
    let finishing = thread::spawn(move || {
        thread::sleep(Duration::from_millis(500));
        slow.write(&body[5..]);
        slow.answer().map(|a| a.status)
    });
    let (status, took) = server.stop();
    assert_eq!(status.code(), Some(0));
    assert_eq!(finishing.join().expect("no panic"), Some(200));
    assert!(took < Duration::from_secs(5), "idle connections do not hold it up: {took:?}");
}

#[test]
fn a_closed_standard_output_does_not_stop_it() {
    let dir = temp_dir();
    let store = format!("embedded:{}", dir.path().join("data").display());
    let script = r#""$0" --rpc-addr 127.0.0.1:0 --http-addr 127.0.0.1:0 --store "$1" >&-"#;
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec {script}"), IM, &store]);
    let server = Program::serve_command(&mut command);
    assert_eq!(request(server.http(), "GET /ping HTTP/1.1", b"").status, 200);
}
