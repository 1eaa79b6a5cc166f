//! Which embedded engine holds the messages: fjall or redb, on the store's own workload.
//!
//! `cargo run --release -p engines [DIR]` prints a table: groups of sends that each wait for their group's
//! fsync (16 and 128 senders, 1,000 rooms, 5 seconds), then pages of ten from a room of a million messages.

use std::{
    fs,
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use hdrhistogram::Histogram;

const ROOMS: u64 = 1_000;
const TEXT: &[u8] = &[b'x'; 60];
const SECONDS: u64 = 5;
const BIG_ROOM: u64 = 1_000_000;
const PAGES: u64 = 20_000;

trait Engine: Send + Sync + Sized + 'static {
    const NAME: &'static str;
    fn open(path: &Path) -> Self;
    fn commit(&self, batch: &[(Vec<u8>, Vec<u8>)]);
    /// The first ten messages of the room from `from` on; returns how many there were.
    fn page(&self, from: &[u8], to: &[u8]) -> usize;
}

struct Fjall(fjall::Database, fjall::Keyspace);

impl Engine for Fjall {
    const NAME: &'static str = "fjall 3.1";
    fn open(path: &Path) -> Self {
        let db = fjall::Database::builder(path).open().unwrap();
        let log = db.keyspace("messages", fjall::KeyspaceCreateOptions::default).unwrap();
        Self(db, log)
    }
    fn commit(&self, batch: &[(Vec<u8>, Vec<u8>)]) {
        let mut b = self.0.batch().durability(Some(fjall::PersistMode::SyncData));
        for (k, v) in batch {
            b.insert(&self.1, k.as_slice(), v.as_slice());
        }
        b.commit().unwrap();
    }
    fn page(&self, from: &[u8], to: &[u8]) -> usize {
        self.1.range(from..to).take(10).map(|g| g.into_inner().unwrap()).count()
    }
}

struct Redb(redb::Database);
const TABLE: redb::TableDefinition<&[u8], &[u8]> = redb::TableDefinition::new("messages");

impl Engine for Redb {
    const NAME: &'static str = "redb 4.6";
    fn open(path: &Path) -> Self {
        fs::create_dir_all(path).unwrap();
        let db = redb::Database::create(path.join("db.redb")).unwrap();
        let tx = db.begin_write().unwrap();
        tx.open_table(TABLE).unwrap();
        tx.commit().unwrap();
        Self(db)
    }
    fn commit(&self, batch: &[(Vec<u8>, Vec<u8>)]) {
        let mut tx = self.0.begin_write().unwrap();
        tx.set_quick_repair(true);
        {
            let mut t = tx.open_table(TABLE).unwrap();
            for (k, v) in batch {
                t.insert(k.as_slice(), v.as_slice()).unwrap();
            }
        }
        tx.commit().unwrap();
    }
    fn page(&self, from: &[u8], to: &[u8]) -> usize {
        use redb::ReadableDatabase;
        let tx = self.0.begin_read().unwrap();
        let t = tx.open_table(TABLE).unwrap();
        t.range(from..to).unwrap().take(10).map(|r| { let (k, v) = r.unwrap(); (k.value().to_vec(), v.value().to_vec()) }).count()
    }
}

fn key(room: u64, t: u64) -> Vec<u8> {
    let mut k = format!("alice{room}:bob{room}").into_bytes();
    k.push(0xff);
    k.extend(t.to_be_bytes());
    k
}

fn cpu() -> Duration {
    // SAFETY: rusage is plain data that getrusage fills.
    unsafe {
        let mut u: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut u);
        let t = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
        t(u.ru_utime) + t(u.ru_stime)
    }
}

fn rss_mb() -> u64 {
    let s = fs::read_to_string("/proc/self/status").unwrap();
    s.lines().find(|l| l.starts_with("VmRSS")).unwrap().split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn disk_mb(p: &Path) -> u64 {
    let out = std::process::Command::new("du").args(["-sm"]).arg(p).output().unwrap();
    String::from_utf8(out.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

type Waiting = (u64, mpsc::SyncSender<()>);

fn sends<E: Engine>(e: &E, senders: u64) {
    let (tx, rx) = mpsc::channel::<Waiting>();
    let (start, cpu0) = (Instant::now(), cpu());
    let (mut groups, mut n) = (0u64, 0u64);
    let hist = thread::scope(|s| {
        let hs: Vec<_> = (0..senders)
            .map(|i| {
                let tx = tx.clone();
                s.spawn(move || {
                    let mut h = Histogram::<u64>::new(3).unwrap();
                    let mut room = i * 7919;
                    let (ack, acked) = mpsc::sync_channel(1);
                    while start.elapsed() < Duration::from_secs(SECONDS) {
                        room = (room + 1) % ROOMS;
                        let t = Instant::now();
                        tx.send((room, ack.clone())).unwrap();
                        acked.recv().unwrap();
                        h.record(t.elapsed().as_micros() as u64).unwrap();
                    }
                    h
                })
            })
            .collect();
        drop(tx);
        let mut last = 0;
        while let Ok(first) = rx.recv() {
            let mut group = vec![first];
            group.extend(rx.try_iter().take(1023));
            let batch: Vec<_> = group
                .iter()
                .map(|(room, _)| {
                    last = (last + 1).max(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64);
                    (key(*room, last), TEXT.to_vec())
                })
                .collect();
            e.commit(&batch);
            groups += 1;
            n += group.len() as u64;
            for (_, ack) in group {
                ack.send(()).unwrap();
            }
        }
        let mut all = Histogram::<u64>::new(3).unwrap();
        for h in hs {
            all.add(h.join().unwrap()).unwrap();
        }
        all
    });
    let secs = start.elapsed().as_secs_f64();
    println!(
        "| {} | {senders} senders | {:.0} sends/s | group of {:.0} | {:.1} us CPU/send | p50 {} us | p99 {} us |",
        E::NAME, n as f64 / secs, n as f64 / groups as f64,
        (cpu() - cpu0).as_secs_f64() * 1e6 / n as f64, hist.value_at_quantile(0.5), hist.value_at_quantile(0.99)
    );
}

fn pages<E: Engine>(e: &E) {
    let (t, c) = (Instant::now(), cpu());
    for from in (0..BIG_ROOM).step_by(1000) {
        let batch: Vec<_> = (from..from + 1000).map(|t| (key(ROOMS, t), TEXT.to_vec())).collect();
        e.commit(&batch);
    }
    println!("| {} | load 1,000 x 1,000 | {:.1} s | {:.1} us CPU/message | | | |", E::NAME, t.elapsed().as_secs_f64(), (cpu() - c).as_secs_f64() * 1e6 / BIG_ROOM as f64);
    let end = key(ROOMS, u64::MAX);
    for (name, at) in [("start", 0), ("middle", BIG_ROOM / 2), ("random", 1), ("end", BIG_ROOM - 10)] {
        let (t, mut x) = (Instant::now(), 12345u64);
        for _ in 0..PAGES {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let at = if name == "random" { (x >> 33) % (BIG_ROOM - 10) } else { at };
            assert_eq!(e.page(&key(ROOMS, at), &end), 10);
        }
        println!("| {} | page of 10, {name} | {:.1} us | | | | |", E::NAME, t.elapsed().as_secs_f64() * 1e6 / PAGES as f64);
    }
}

fn run<E: Engine>(dir: &Path) {
    let path = dir.join(E::NAME.replace(' ', "-"));
    let _ = fs::remove_dir_all(&path);
    let e = E::open(&path);
    for senders in [1, 16, 128] {
        sends(&e, senders);
    }
    pages(&e);
    println!("| {} | after all | {} MB resident | {} MB on disk | | | |", E::NAME, rss_mb(), disk_mb(&path));
    drop(e);
    let t = Instant::now();
    let e = E::open(&path);
    assert_eq!(e.page(&key(ROOMS, 0), &key(ROOMS, u64::MAX)), 10);
    println!("| {} | open again, first page | {:.0} ms | | | | |", E::NAME, t.elapsed().as_secs_f64() * 1e3);
    drop(e);
    fs::remove_dir_all(&path).unwrap();
}

fn main() {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "target/engines".into());
    match std::env::args().nth(2).as_deref() {
        Some("redb") => run::<Redb>(Path::new(&dir)),
        Some("fjall") => run::<Fjall>(Path::new(&dir)),
        _ => { run::<Fjall>(Path::new(&dir)); run::<Redb>(Path::new(&dir)); }
    }
}
