//! Stories of client quotas in virtual time: whose quota holds, how long a client waits, and that its rate comes out right.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use watershed_broker::catalog::ClientQuota;
use watershed_broker::quotas::*;
use watershed_core::units::Now;

fn at(ms: u64) -> Now {
    Now { monotonic_us: 1_000_000_000 + ms * 1000, wall_ms: 0 }
}

fn quota(parts: &[(&str, Option<&str>)], key: &str, value: f64) -> ClientQuota {
    let part = |(kind, name): &(&str, Option<&str>)| (kind.to_string(), name.map(str::to_owned));
    ClientQuota { entity: parts.iter().map(part).collect(), key: key.to_owned(), value }
}

fn limit(quantity: Quantity, rate: f64) -> Limit {
    let key = MeterKey { quantity, user: None, client_id: Some("c".to_owned()) };
    Limit { key, rate }
}

/// The parts of an entity, and whether users and client ids are then counted apart.
type Level<'a> = (Vec<(&'a str, Option<&'a str>)>, bool, bool);

#[test]
fn the_most_specific_quota_holds_and_says_who_is_counted_together() {
    let key = "producer_byte_rate";
    let (user, client) = (("user", Some("u")), ("client-id", Some("c")));
    let (any_user, any_client) = (("user", None), ("client-id", None));
    // The weakest first, as each is added; the parts by which use is then counted.
    let levels: [Level<'_>; 8] = [
        (vec![any_client], false, true),
        (vec![client], false, true),
        (vec![any_user], true, false),
        (vec![any_client, any_user], true, true),
        (vec![client, any_user], true, true),
        (vec![user], true, false),
        (vec![any_client, user], true, true),
        (vec![client, user], true, true),
    ];
    let mut quotas = Vec::new();
    for (number, (parts, by_user, by_client)) in levels.iter().enumerate() {
        quotas.push(quota(parts, key, number as f64 + 1.0));
        let table = QuotaTable::new(quotas.clone().into_iter());
        let found = table.limit(Quantity::Produce, "u", "c").unwrap();
        assert_eq!(found.rate, number as f64 + 1.0, "{parts:?}");
        assert_eq!((found.key.user.is_some(), found.key.client_id.is_some()), (*by_user, *by_client), "{parts:?}");
        assert_eq!(table.limit(Quantity::Fetch, "u", "c"), None);
    }
    let table = QuotaTable::new(vec![quota(&[any_client], key, 5.0)].into_iter());
    let key_of = |client: &str| table.limit(Quantity::Produce, "u", client).unwrap().key;
    assert_ne!(key_of("a"), key_of("b"), "a default is each client's own");
    let others = vec![quota(&[("ip", None)], "connection_creation_rate", 5.0), quota(&[client], "no.such", 5.0)];
    assert!(QuotaTable::new(others.into_iter()).is_empty());
}

#[test]
fn a_client_that_waits_as_told_comes_to_its_rate() {
    let rate = 1000.0;
    let (mut meters, mut now_ms, mut sent) = (Meters::default(), 0, 0.0);
    while now_ms < 120_000 {
        let told = meters.charge(at(now_ms), &limit(Quantity::Produce, rate), Charge::Done(500.0));
        sent += 500.0;
        now_ms += u64::from(told.throttle_ms) + 1;
    }
    let allowed = rate * (now_ms as f64 / 1000.0 + 10.0);
    assert!(sent <= allowed * 1.05, "{sent} of {allowed} bytes");
    assert!(sent >= rate * 120.0 * 0.9, "{sent} bytes in 120 s");
}

#[test]
fn the_first_bytes_are_spread_over_the_window() {
    let mut meters = Meters::default();
    let mut charge = |ms, bytes| meters.charge(at(ms), &limit(Quantity::Produce, 1000.0), Charge::Done(bytes));
    assert_eq!(charge(0, 10_000.0).throttle_ms, 0, "ten seconds' worth at once");
    assert_eq!(charge(0, 1000.0).throttle_ms, 1000, "one second's too much");
    assert_eq!(charge(20_000, 1.0).throttle_ms, 0, "the window is over");
}

#[test]
fn a_fetch_beyond_the_quota_counts_nothing_unless_it_is_alone() {
    let mut meters = Meters::default();
    let limit = limit(Quantity::Fetch, 1000.0);
    let first = meters.charge(at(0), &limit, Charge::IfWithin(50_000.0));
    assert_eq!((first.is_refused, first.throttle_ms), (false, 40_000), "too large for any window, but alone in it");
    let second = meters.charge(at(1000), &limit, Charge::IfWithin(1.0));
    assert!(second.is_refused && second.throttle_ms > 30_000, "{second:?}");
    let again = meters.charge(at(11_500), &limit, Charge::IfWithin(1000.0));
    assert_eq!(again, Verdict::default(), "what was refused did not count");
    assert_eq!(limit.window_amount(), 10_000.0);
}

#[test]
fn time_is_waited_for_one_second_at_most() {
    let mut meters = Meters::default();
    let told = meters.charge(at(0), &limit(Quantity::Request, 1.0), Charge::Done(5000.0));
    assert_eq!(told, Verdict { is_refused: false, throttle_ms: 1000 });
}

#[test]
fn mutations_have_a_burst_and_then_their_rate() {
    let mut meters = Meters::default();
    let limit = limit(Quantity::Mutation, 2.0);
    assert_eq!(meters.charge(at(0), &limit, Charge::IfWithin(20.0)), Verdict::default());
    let large = meters.charge(at(0), &limit, Charge::IfWithin(10.0));
    assert_eq!((large.is_refused, large.throttle_ms), (false, 4000), "one request may take more than there is");
    let strict = meters.charge(at(1000), &limit, Charge::IfWithin(1.0));
    assert_eq!((strict.is_refused, strict.throttle_ms), (true, 3000));
    let old = meters.charge(at(1000), &limit, Charge::Done(1.0));
    assert_eq!((old.is_refused, old.throttle_ms), (false, 3500), "an old client is only told to wait");
    assert!(!meters.charge(at(4600), &limit, Charge::IfWithin(1.0)).is_refused);
}

#[test]
fn meters_of_clients_that_are_gone_are_forgotten() {
    let mut meters = Meters::default();
    for client in 0..1000 {
        for quantity in [Quantity::Produce, Quantity::Mutation] {
            let key = MeterKey { quantity, user: None, client_id: Some(client.to_string()) };
            meters.charge(at(0), &Limit { key, rate: 10.0 }, Charge::Done(1.0));
        }
    }
    assert_eq!(meters.count(), 2000);
    meters.charge(at(30_000), &limit(Quantity::Produce, 1.0), Charge::Done(1.0));
    assert_eq!(meters.count(), 1);
}
