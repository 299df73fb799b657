//! Meters: use over time against a rate. Bytes and time are rates over a window of samples, mutations a bucket of tokens.

use std::collections::{BTreeMap, VecDeque};

use watershed_core::units::Now;

use super::table::{Limit, MeterKey, Quantity};
use super::{SAMPLE_US, SAMPLES_COUNT};

/// The longest wait for time that was used, as in Kafka: one sample. Work is short, a client must not be lost for long.
const REQUEST_THROTTLE_US_MAX: f64 = SAMPLE_US as f64;
const WINDOW_US: u64 = SAMPLES_COUNT * SAMPLE_US;

/// How something is charged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Charge {
    /// It was done: it counts, and what is too much has to be waited for.
    Done(f64),
    /// It counts only if the quota allows it now: a rate if it stays within it or is alone in the window, tokens if none
    /// are owed.
    IfWithin(f64),
}

impl Charge {
    fn amount(self) -> f64 {
        let (Charge::Done(amount) | Charge::IfWithin(amount)) = self;
        amount
    }
}

/// What a charge comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// It does not count, and must not be done.
    pub is_refused: bool,
    pub throttle_ms: u32,
}

/// The meters of one shard.
#[derive(Clone, Debug, Default)]
pub struct Meters {
    rates: BTreeMap<MeterKey, Window>,
    buckets: BTreeMap<MeterKey, Bucket>,
    /// When those that say nothing any more are next forgotten.
    sweep_us: u64,
}

impl Meters {
    pub fn count(&self) -> usize {
        self.rates.len() + self.buckets.len()
    }

    /// Counts a use against its limit.
    pub fn charge(&mut self, now: Now, limit: &Limit, charge: Charge) -> Verdict {
        let now_us = now.monotonic_us;
        self.forget_idle(now_us);
        if limit.key.quantity == Quantity::Mutation {
            let bucket = self.buckets.entry(limit.key.clone()).or_insert_with(|| Bucket::full(now_us, limit.rate));
            return bucket.charge(now_us, limit.rate, charge);
        }
        let verdict = self.rates.entry(limit.key.clone()).or_default().charge(now_us, limit.rate, charge);
        match limit.key.quantity {
            Quantity::Request => {
                Verdict { throttle_ms: verdict.throttle_ms.min(ms(REQUEST_THROTTLE_US_MAX)), ..verdict }
            }
            _ => verdict,
        }
    }

    fn forget_idle(&mut self, now_us: u64) {
        if now_us < self.sweep_us {
            return;
        }
        self.sweep_us = now_us + WINDOW_US;
        self.rates.retain(|_, window| !window.is_over(now_us));
        self.buckets.retain(|_, bucket| !bucket.is_full(now_us));
    }
}

fn ms(us: f64) -> u32 {
    (us / 1000.0).round().clamp(0.0, f64::from(i32::MAX)) as u32
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    start_us: u64,
    amount: f64,
}

/// The samples of a rate, the oldest first.
#[derive(Clone, Debug, Default)]
struct Window(VecDeque<Sample>);

impl Window {
    fn charge(&mut self, now_us: u64, rate: f64, charge: Charge) -> Verdict {
        self.forget_old(now_us);
        let (before, amount) = (self.total(), charge.amount());
        let start_us = self.0.front().map_or(now_us, |oldest| oldest.start_us);
        let throttle_us = throttle_us(before + amount, rate, span_us(start_us, now_us));
        let is_refused = matches!(charge, Charge::IfWithin(_)) && throttle_us > 0.0 && before > 0.0;
        if !is_refused {
            self.add(now_us, amount);
        }
        Verdict { is_refused, throttle_ms: ms(throttle_us) }
    }

    fn add(&mut self, now_us: u64, amount: f64) {
        match self.0.back_mut().filter(|last| now_us < last.start_us + SAMPLE_US) {
            Some(last) => last.amount += amount,
            None => self.0.push_back(Sample { start_us: now_us, amount }),
        }
    }

    fn total(&self) -> f64 {
        self.0.iter().map(|sample| sample.amount).sum()
    }

    fn forget_old(&mut self, now_us: u64) {
        while self.0.front().is_some_and(|oldest| now_us >= oldest.start_us + WINDOW_US) {
            self.0.pop_front();
        }
    }

    fn is_over(&self, now_us: u64) -> bool {
        self.0.back().is_none_or(|last| now_us >= last.start_us + WINDOW_US)
    }
}

/// The time that a rate is computed over: since the oldest sample, and as if every sample but one were full, so that the
/// first bytes of a client are not taken for its rate.
fn span_us(start_us: u64, now_us: u64) -> f64 {
    let elapsed_us = now_us.saturating_sub(start_us);
    let missing = (SAMPLES_COUNT - 1).saturating_sub(elapsed_us / SAMPLE_US);
    (elapsed_us + missing * SAMPLE_US) as f64
}

/// How long nothing may be used until the rate is what it may be.
fn throttle_us(total: f64, rate: f64, span_us: f64) -> f64 {
    let observed = total * 1e6 / span_us;
    match observed > rate {
        true => (observed - rate) / rate * span_us,
        false => 0.0,
    }
}

/// Tokens that come back at the quota's rate, up to what a whole window holds. One use may take more than there are.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    rate: f64,
    filled_us: u64,
}

impl Bucket {
    fn full(now_us: u64, rate: f64) -> Bucket {
        Bucket { tokens: capacity(rate), rate, filled_us: now_us }
    }

    fn charge(&mut self, now_us: u64, rate: f64, charge: Charge) -> Verdict {
        self.fill(now_us, rate);
        let is_refused = matches!(charge, Charge::IfWithin(_)) && self.tokens < 0.0;
        if !is_refused {
            self.tokens -= charge.amount();
        }
        Verdict { is_refused, throttle_ms: ms((-self.tokens / rate * 1e6).max(0.0)) }
    }

    fn fill(&mut self, now_us: u64, rate: f64) {
        self.rate = rate;
        self.tokens = self.tokens_at(now_us);
        self.filled_us = now_us;
    }

    fn tokens_at(&self, now_us: u64) -> f64 {
        let elapsed_us = now_us.saturating_sub(self.filled_us) as f64;
        (self.tokens + elapsed_us / 1e6 * self.rate).min(capacity(self.rate))
    }

    fn is_full(&self, now_us: u64) -> bool {
        self.tokens_at(now_us) >= capacity(self.rate)
    }
}

fn capacity(rate: f64) -> f64 {
    rate * WINDOW_US as f64 / 1e6
}
