//! A clock that follows Redis's own, whatever this machine's clock says.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::message::SendTime;

/// How many readings of Redis's clock are weighed: the quickest of them is the most exact.
const READINGS: usize = 8;

/// Proposes times for messages: strictly increasing within the process, near Redis's own time.
#[derive(Debug)]
pub struct Clock {
    origin: Instant,
    /// Redis's time at `origin`, in microseconds.
    redis_at_origin: AtomicI64,
    last: AtomicI64,
}

impl Clock {
    /// A clock that shows this machine's time until Redis's is known.
    pub fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { origin: Instant::now(), redis_at_origin: AtomicI64::new(micros(since)), last: AtomicI64::new(0) }
    }

    /// Now, or just after the last time proposed.
    pub fn propose(&self) -> Option<SendTime> {
        let now = self.redis_at_origin.load(Ordering::Relaxed) + micros(self.origin.elapsed());
        let next = |last: i64| Some(now.max(last + 1));
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_else(|last| last);
        SendTime::from_micros(now.max(last + 1))
    }

    fn adopt(&self, readings: &VecDeque<Reading>) {
        if let Some(best) = readings.iter().min_by_key(|r| r.took) {
            self.redis_at_origin.store(best.redis_at_origin, Ordering::Relaxed);
        }
    }
}

/// Redis's answers to TIME, the last [`READINGS`] of them.
#[derive(Debug, Default)]
pub struct Readings(VecDeque<Reading>);

#[derive(Debug)]
struct Reading {
    took: Duration,
    redis_at_origin: i64,
}

impl Readings {
    /// Sets `clock` by one more answer: `redis_us` was read at some moment of the `took` after `asked`.
    pub fn add(&mut self, clock: &Clock, asked: Instant, took: Duration, redis_us: i64) {
        let read_at = asked.duration_since(clock.origin) + took / 2;
        self.0.push_back(Reading { took, redis_at_origin: redis_us - micros(read_at) });
        if self.0.len() > READINGS {
            self.0.pop_front();
        }
        clock.adopt(&self.0);
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn propose(clock: &Clock) -> i64 {
        clock.propose().expect("after 1970").as_micros()
    }

    #[test]
    fn times_strictly_increase_even_when_redis_steps_back() {
        let (clock, mut readings) = (Clock::new(), Readings::default());
        let mut last = propose(&clock);
        readings.add(&clock, Instant::now(), Duration::ZERO, 1_000_000);
        for _ in 0..1_000 {
            let next = propose(&clock);
            assert!(next > last);
            last = next;
        }
    }

    #[test]
    fn the_clock_shows_redis_time() {
        let (clock, mut readings) = (Clock::new(), Readings::default());
        let redis_us = propose(&clock) + 5_000_000;
        readings.add(&clock, Instant::now(), Duration::from_micros(100), redis_us);
        let off = propose(&clock) - redis_us;
        assert!((0..100_000).contains(&off), "off by {off} us");
    }

    #[test]
    fn the_quickest_reading_counts() {
        let (clock, mut readings) = (Clock::new(), Readings::default());
        let redis_us = propose(&clock) + 5_000_000;
        readings.add(&clock, Instant::now(), Duration::from_micros(100), redis_us);
        readings.add(&clock, Instant::now(), Duration::from_millis(900), redis_us);
        let off = propose(&clock) - redis_us;
        assert!((0..100_000).contains(&off), "off by {off} us");
    }
}
