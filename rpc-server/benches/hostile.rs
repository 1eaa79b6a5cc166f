//! What hostile bytes cost those who behave: their latency while nobody attacks and while somebody does, turn by turn
//! in one run, and the server's memory. Prints a Markdown table: `cargo bench -p rpc-server --bench hostile`.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use harness::{
    hostile,
    program::Program,
    thrift::{Envelope, Protocol, encode, pull, read_reply, send},
};

/// Turns of each attack. The table has the medians.
const ROUNDS: usize = 9;

/// How long a turn measures.
const TURN: Duration = Duration::from_secs(1);

/// Those who behave, each with a connection of its own and a call every [`CALL_INTERVAL`].
const CALLERS: usize = 4;
const CALL_INTERVAL: Duration = Duration::from_millis(4);

/// What an attack does until it is told to stop.
enum Attack {
    /// So many connections a second, each with one of these messages.
    Messages(Vec<hostile::Case>, u32),
    /// The same, but to a socket that only reads: what this machine's network by itself takes from the others.
    Elsewhere(Vec<hostile::Case>, u32),
    /// So many connections at a time that stay open, each with so many bytes of an unfinished message, and one more
    /// byte some ten times a second.
    Unfinished(usize, usize),
    /// So many connections at a time that say nothing.
    Idle(usize),
}

fn main() {
    let long = encode(&send(1, "a:b", &"x".repeat(8_380_000), "a"), (Protocol::Binary, Envelope::Framed));
    let named = |bytes| vec![(String::new(), bytes)];
    let attacks = [
        ("calls cut at every byte", Attack::Messages(hostile::cut(), 500)),
        ("one byte changed, at every position", Attack::Messages(hostile::with_a_byte_changed(), 500)),
        ("a number changed, at every position", Attack::Messages(hostile::with_a_number_changed(), 500)),
        ("lengths, counts, depths, magic, HTTP, TLS, ...", Attack::Messages(hostile::named(), 500)),
        ("zlib bombs of 64 MiB", Attack::Messages(named(hostile::bomb()), 20)),
        ("texts of 8 MB, whole", Attack::Messages(named(long.clone()), 5)),
        ("texts of 8 MB to a socket that only reads", Attack::Elsewhere(named(long), 5)),
        ("slow senders, a byte at a time", Attack::Unfinished(400, 1)),
        ("half-open, 64 KB of an unfinished 8 MB", Attack::Unfinished(400, 64 << 10)),
        ("idle connections", Attack::Idle(5_000)),
    ];
    rlimit::increase_nofile_limit(u64::MAX).expect("raised");
    println!("| attack | cases | p50 and p99 alone, ms | p99 meanwhile, ms | ratio (least to most) | memory, MB |");
    println!("|---|---|---|---|---|---|");
    for (name, attack) in attacks {
        println!("{}", row(name, &attack));
    }
}

fn row(name: &str, attack: &Attack) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = format!("embedded:{}", dir.path().join("data").display());
    let server = Program::serve(env!("CARGO_BIN_EXE_rpc-server"), &["--rpc-addr", "127.0.0.1:0", "--store", &store]);
    latencies(&server); // warm
    let (before, mut rounds) = (memory(&server, "VmRSS:"), Vec::new());
    for _ in 0..ROUNDS {
        let alone = latencies(&server);
        let stop = AtomicBool::new(false);
        let meanwhile = thread::scope(|scope| {
            let ready = attack.start(&server, &stop, scope);
            ready.join().expect("no panic");
            let meanwhile = latencies(&server);
            stop.store(true, Ordering::Release);
            meanwhile
        });
        rounds.push((percentile(&alone, 50), percentile(&alone, 99), percentile(&meanwhile, 99)));
        thread::sleep(Duration::from_millis(300)); // what was closed is gone
    }
    let grown = memory(&server, "VmHWM:") - before;
    let ms = |of: fn(&(f64, f64, f64)) -> f64| median(rounds.iter().map(of).collect());
    let mut ratios: Vec<_> = rounds.iter().map(|(_, alone, meanwhile)| meanwhile / alone).collect();
    ratios.sort_by(f64::total_cmp);
    let cases = match attack {
        Attack::Messages(cases, rate) | Attack::Elsewhere(cases, rate) => format!("{}, {rate}/s", cases.len()),
        Attack::Unfinished(count, _) | Attack::Idle(count) => format!("{count} at a time"),
    };
    format!(
        "| {name} | {cases} | {:.2}, {:.2} | {:.2} | {:.1} ({:.1} to {:.1}) | {before:.0} + {grown:.0} at most |",
        ms(|r| r.0),
        ms(|r| r.1),
        ms(|r| r.2),
        ratios[ROUNDS / 2],
        ratios[0],
        ratios[ROUNDS - 1],
    )
}

impl Attack {
    /// Attacks until `stop`; what is returned ends when the attack is under way.
    fn start<'s>(
        &'s self,
        server: &'s Program,
        stop: &'s AtomicBool,
        scope: &'s thread::Scope<'s, '_>,
    ) -> thread::ScopedJoinHandle<'s, ()> {
        match self {
            Self::Messages(cases, rate) | Self::Elsewhere(cases, rate) => {
                let to = if let Self::Elsewhere(..) = self { sink() } else { server.rpc() };
                scope.spawn(move || {
                    make_room();
                    let start = Instant::now();
                    for (i, (_, bytes)) in (0..).zip(cases.iter().cycle()) {
                        if stop.load(Ordering::Acquire) {
                            return;
                        }
                        thread::sleep((Duration::from_secs(1) * i / *rate).saturating_sub(start.elapsed()));
                        say(to, bytes);
                    }
                });
                scope.spawn(|| thread::sleep(Duration::from_millis(100)))
            }
            Self::Unfinished(count, bytes) => {
                let announced = [&[0, 0x7F, 0, 0, 0x80, 0x01][..], &vec![0; *bytes]].concat();
                let mut open = connections(server, *count);
                open.iter_mut().for_each(|stream| stream.write_all(&announced).expect("written"));
                scope.spawn(move || {
                    make_room();
                    while !stop.load(Ordering::Acquire) {
                        for stream in &mut open {
                            thread::sleep(Duration::from_millis(100) / *count as u32);
                            let _ = stream.write_all(&[0]);
                        }
                    }
                });
                scope.spawn(|| thread::sleep(Duration::from_millis(100)))
            }
            Self::Idle(count) => {
                let open = connections(server, *count);
                scope.spawn(move || {
                    while !stop.load(Ordering::Acquire) {
                        thread::sleep(Duration::from_millis(100));
                    }
                    drop(open);
                });
                scope.spawn(|| thread::sleep(Duration::from_millis(300)))
            }
        }
    }
}

/// Who attacks from elsewhere takes no CPU from those who behave: this thread takes only what they leave.
fn make_room() {
    rustix::process::setpriority_process(None, 19).expect("anybody may have less");
}

fn connections(server: &Program, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| TcpStream::connect(server.rpc()).expect("connected")).collect()
}

/// Reads all that one connection after the other says.
fn sink() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut received = vec![0; 64 << 10];
            while stream.read(&mut received).is_ok_and(|count| count > 0) {}
        }
    });
    addr
}

fn say(to: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(to).expect("connected");
    let _ = stream.write_all(bytes); // the server may have closed it already
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}

/// What each call of those who behave took over a turn, sorted, in milliseconds. Counted from when it was due, so
/// that a stall costs all the calls that it held up.
fn latencies(server: &Program) -> Vec<f64> {
    let mut all = thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|caller| scope.spawn(move || behave(server, caller))).collect();
        callers.into_iter().flat_map(|caller| caller.join().expect("no panic")).collect::<Vec<_>>()
    });
    all.sort_by(f64::total_cmp);
    all
}

fn behave(server: &Program, caller: usize) -> Vec<f64> {
    let form = (Protocol::Binary, Envelope::Framed);
    let (mut stream, room) = (TcpStream::connect(server.rpc()).expect("connected"), format!("good:{caller}"));
    stream.set_nodelay(true).expect("set");
    let start = Instant::now();
    let calls = (TURN.as_micros() / CALL_INTERVAL.as_micros()) as u32;
    let took = (0..calls).map(|i| {
        let due = start + CALL_INTERVAL * i;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let call = if i % 2 == 0 { send(1, &room, "hello", "good") } else { pull(1, &room, 10, true) };
        stream.write_all(&encode(&call, form)).expect("written");
        let reply = read_reply(&mut stream, form).expect("a reply");
        assert_eq!(reply.kind, 2, "{reply:?}");
        due.elapsed().as_secs_f64() * 1e3
    });
    took.collect()
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// In MB.
fn memory(server: &Program, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it lives");
    let line = status.lines().find_map(|l| l.strip_prefix(field)).expect("there");
    line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).expect("a number") / 1024.0
}
