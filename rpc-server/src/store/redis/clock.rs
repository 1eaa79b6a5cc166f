//! A clock that follows Redis's own, whatever this machine's clock says.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::message::SendTime;

/// How many readings of Redis's clock are weighed: the quickest of them is the most exact.
const READINGS: usize = 8;

/// What [`Clock`] holds of Redis's time before it was ever read.
const UNKNOWN: i64 = i64::MIN;

/// Proposes times for messages: strictly increasing within the process, near Redis's own time.
#[derive(Debug)]
pub struct Clock {
    origin: Instant,
    /// Redis's time at `origin`, in microseconds.
    redis_at_origin: AtomicI64,
    last: AtomicI64,
    /// The last [`READINGS`] of them.
    readings: Mutex<VecDeque<Reading>>,
}

#[derive(Debug)]
struct Reading {
    took: Duration,
    redis_at_origin: i64,
}

impl Clock {
    /// A clock that knows no time yet.
    pub fn new() -> Self {
        Self {
            origin: Instant::now(),
            redis_at_origin: AtomicI64::new(UNKNOWN),
            last: AtomicI64::new(0),
            readings: Mutex::default(),
        }
    }

    /// Now, or just after the last time proposed. `None` before Redis's clock was read: this machine's own may be
    /// wrong by any amount, and a room never goes back.
    pub fn propose(&self) -> Option<SendTime> {
        let origin = Some(self.redis_at_origin.load(Ordering::Relaxed)).filter(|origin| *origin != UNKNOWN)?;
        let now = origin + micros(self.origin.elapsed());
        let last = self.last.fetch_max(now, Ordering::Relaxed);
        if now > last {
            return SendTime::from_micros(now);
        }
        SendTime::from_micros(self.last.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Takes one more reading of Redis's clock: it showed `redis_us` at some moment of the `took` after `asked`.
    pub fn adopt(&self, asked: Instant, took: Duration, redis_us: i64) {
        let read_at = asked.duration_since(self.origin) + took / 2;
        let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        readings.push_back(Reading { took, redis_at_origin: redis_us - micros(read_at) });
        if readings.len() > READINGS {
            readings.pop_front();
        }
        if let Some(best) = readings.iter().min_by_key(|reading| reading.took) {
            self.redis_at_origin.store(best.redis_at_origin, Ordering::Relaxed);
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn propose(clock: &Clock) -> i64 {
        clock.propose().expect("Redis's time is known").as_micros()
    }

    #[test]
    fn nothing_is_proposed_before_redis_was_asked() {
        assert_eq!(Clock::new().propose(), None);
    }

    #[test]
    fn times_strictly_increase_even_when_redis_steps_back() {
        let clock = Clock::new();
        clock.adopt(Instant::now(), Duration::from_micros(2), 5_000_000);
        let mut last = propose(&clock);
        clock.adopt(Instant::now(), Duration::from_micros(1), 1_000_000);
        for _ in 0..1_000 {
            let next = propose(&clock);
            assert!(next > last);
            last = next;
        }
    }

    #[test]
    fn the_clock_shows_redis_time_by_its_quickest_reading() {
        let clock = Clock::new();
        clock.adopt(Instant::now(), Duration::from_micros(100), 5_000_000);
        clock.adopt(Instant::now(), Duration::from_millis(900), 7_000_000);
        let off = propose(&clock) - 5_000_000;
        assert!((-1_000..100_000).contains(&off), "off by {off} us");
    }
}
