//! Tasks, timers, wakers of other threads, and memory, on a real ring.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use watershed_core::io::arena::Arena;
use watershed_core::io::executor;

use crate::setup;

fn run<F: Future + 'static>(make: impl FnOnce() -> F) -> F::Output
where
    F::Output: 'static,
{
    setup::HOST.run(setup::config(), make).unwrap()
}

#[test]
fn tasks_run_and_join() {
    let sum = run(|| async {
        let handles: Vec<_> = (0..1000u64)
            .map(|number| {
                executor::spawn(async move {
                    executor::yield_now().await;
                    number
                })
            })
            .collect();
        let mut sum = 0;
        for handle in handles {
            sum += handle.await;
        }
        sum
    });
    assert_eq!(sum, 499_500);
}

#[test]
fn timers_fire_in_order_and_never_early() {
    let order = run(|| async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let start = Instant::now();
        let handles: Vec<_> = [30u64, 10, 20]
            .into_iter()
            .map(|ms| {
                let order = order.clone();
                executor::spawn(async move {
                    executor::sleep_until(start + Duration::from_millis(ms)).await;
                    assert!(start.elapsed() >= Duration::from_millis(ms));
                    order.borrow_mut().push(ms);
                })
            })
            .collect();
        for handle in handles {
            handle.await;
        }
        order.take()
    });
    assert_eq!(order, [10, 20, 30]);
}

/// A task whose deadline comes while a long turn goes on sees it in the next turn, not over and over in this one.
#[test]
fn who_wakes_at_a_deadline_finds_that_it_has_come() {
    let waits = run(|| async {
        let deadline_us = executor::machine_now().monotonic_us + 5000;
        std::thread::sleep(Duration::from_millis(10));
        let mut waits = 0;
        while executor::machine_now().monotonic_us < deadline_us {
            executor::sleep_until(executor::instant_of(deadline_us)).await;
            waits += 1;
            assert!(waits < 1000, "it wakes and its time has not come");
        }
        waits
    });
    assert_eq!(waits, 1);
}

#[test]
fn a_deadline_drops_what_it_waits_for() {
    run(|| async {
        let deadline = executor::now() + Duration::from_millis(5);
        assert_eq!(executor::until(deadline, std::future::pending::<()>()).await, None);
        assert_eq!(executor::until(deadline, async { 7 }).await, Some(7));
    });
}

#[test]
fn a_cancelled_task_drops_its_future() {
    run(|| async {
        let kept = Rc::new(());
        let held = kept.clone();
        let handle = executor::spawn(async move {
            std::future::pending::<()>().await;
            drop(held);
        });
        executor::yield_now().await;
        assert_eq!(Rc::strong_count(&kept), 2);
        handle.cancel();
        assert_eq!(Rc::strong_count(&kept), 1);
    });
}

#[test]
fn wakers_work_from_other_threads_while_the_executor_sleeps() {
    let rounds = 200u64;
    run(move || async move {
        let shared: Arc<Mutex<(u64, Option<Waker>)>> = Arc::default();
        let theirs = shared.clone();
        let thread = std::thread::spawn(move || {
            for round in 1..=rounds {
                // Long enough that the executor is often asleep, short enough that it often is not.
                std::thread::sleep(Duration::from_micros(round % 7 * 40));
                let mut shared = theirs.lock().unwrap();
                shared.0 = round;
                if let Some(waker) = shared.1.take() {
                    waker.wake();
                }
            }
        });
        for round in 1..=rounds {
            poll_fn(|context| {
                let mut shared = shared.lock().unwrap();
                if shared.0 >= round {
                    return Poll::Ready(());
                }
                shared.1 = Some(context.waker().clone());
                Poll::Pending
            })
            .await;
        }
        thread.join().unwrap();
    });
}

#[test]
fn background_work_gives_way_to_requests() {
    run(|| async {
        let stop = Rc::new(std::cell::Cell::new(false));
        let stopped = stop.clone();
        let hog = executor::spawn_background(async move {
            while !stopped.get() {
                std::hint::black_box((0..1000u64).sum::<u64>());
                executor::yield_if_needed().await;
            }
        });
        let start = Instant::now();
        for _ in 0..20 {
            executor::sleep(Duration::from_millis(1)).await;
        }
        let took = start.elapsed();
        stop.set(true);
        hog.await;
        assert!(took >= Duration::from_millis(20) && took < Duration::from_secs(2), "{took:?}");
    });
}

#[test]
fn a_task_that_blocks_is_reported() {
    let stats = run(|| async {
        executor::yield_now().await;
        let before = executor::stats().stalled_turn_count();
        std::thread::sleep(Duration::from_millis(200));
        executor::yield_now().await;
        let stats = executor::stats();
        assert!(stats.stalled_turn_count() > before);
        stats
    });
    assert!(stats.longest_turn_us() >= 200_000, "{stats:?}");
}

#[test]
fn arena_reuses_limits_and_takes_back_loans() {
    run(|| async {
        let arena = Arena::new(4 << 20).unwrap();
        let mut first = arena.try_alloc(3 << 20).unwrap();
        assert_eq!((first.len(), first.as_ptr() as usize % (2 << 20)), (4 << 20, 0));
        assert!(arena.try_alloc(1).is_none(), "the limit holds");
        first[10..13].copy_from_slice(b"abc");
        let slice = first.freeze().slice(10..13);
        let lent = slice.lend();
        drop(slice);
        assert!(arena.try_alloc(1).is_none(), "a loan keeps its block");
        assert_eq!(arena.usage().lent_count, 1);
        let thread = std::thread::spawn(move || lent.to_vec());
        assert_eq!(thread.join().unwrap(), b"abc");
        executor::yield_now().await;
        let usage = arena.usage();
        assert_eq!((usage.in_use_bytes, usage.peak_bytes, usage.lent_count), (0, 4 << 20, 0));
        assert!(arena.try_alloc(1).is_some());
        arena.huge_page_bytes().unwrap();
    });
}

#[test]
fn a_parcel_is_filled_in_parts_and_read_where_nobody_writes() {
    let arena = Arena::new(2 << 20).unwrap();
    let mut parcel = arena.try_alloc(4096).unwrap().into_parcel();
    let (mut first, mut second) = (parcel.give(3), parcel.give(5));
    second.copy_from_slice(b"fghij");
    drop(second.freeze());
    assert_eq!(&*parcel.slice(3..8), b"fghij");
    let too_early = std::panic::AssertUnwindSafe(|| parcel.slice(2..8));
    assert!(std::panic::catch_unwind(too_early).is_err(), "the first part is still written");
    first.copy_from_slice(b"abc");
    drop(first);
    let all = parcel.slice(0..8);
    assert_eq!((&*all, parcel.given(), parcel.room()), (&b"abcfghij"[..], 8, 4088));
    drop(parcel);
    assert!(arena.usage().in_use_bytes == 4096, "a slice keeps the block");
    drop(all);
    assert_eq!(arena.usage().in_use_bytes, 0);
}

#[test]
fn a_tail_is_read_while_it_grows() {
    let arena = Arena::new(2 << 20).unwrap();
    let mut tail = arena.try_alloc(4096).unwrap().into_tail(0);
    tail.append(b"one");
    let one = tail.slice(0..3);
    tail.spare_mut()[..3].copy_from_slice(b"two");
    tail.advance(3);
    assert_eq!((&*one, &*tail, tail.room()), (&b"one"[..], &b"onetwo"[..], 4090));
    assert!(tail.slice(0..6).slice(3..6).try_thaw().is_err(), "others refer to the block");
    drop(one);
    let whole = tail.slice(0..6);
    drop(tail);
    assert_eq!(&whole.try_thaw().ok().unwrap()[..6], b"onetwo");
}

#[test]
fn loans_outlive_their_arena_and_its_thread() {
    let lent = std::thread::spawn(|| {
        let arena = Arena::new(2 << 20).unwrap();
        let mut lease = arena.try_alloc(4096).unwrap();
        lease.fill(9);
        lease.freeze().lend()
    })
    .join()
    .unwrap();
    assert!(lent.iter().all(|byte| *byte == 9));
}

#[test]
fn the_ring_is_set_up_as_asked() {
    let found = run(|| async { executor::ring_setup() });
    assert_eq!(found, setup::RING, "this machine's kernel has every feature that the suite asks for");
}
