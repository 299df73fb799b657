//! The suite inside glommio executors.
#![cfg(feature = "glommio")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "io_suite/executor.rs"]
mod executor;
#[path = "io_suite/file.rs"]
mod file;
#[path = "io_suite/mesh.rs"]
mod mesh;
#[path = "io_suite/socket.rs"]
mod socket;

/// What the suite runs on.
mod setup {
    use watershed_core::io::executor::ExecutorConfig;
    use watershed_core::io::host::Host;
    use watershed_core::io::ring::RingSetup;
    use watershed_core::io::shards::{Placement, ShardsConfig};

    pub(crate) const HOST: Host = Host::Glommio;
    pub(crate) const RING: RingSetup = RingSetup::BEST;

    pub(crate) fn config() -> ExecutorConfig {
        ExecutorConfig { ring_setup: RING, ..ExecutorConfig::default() }
    }

    pub(crate) fn shards(placement: Placement) -> ShardsConfig {
        ShardsConfig { placement, host: HOST, ring_setup: RING }
    }
}

mod embedded {
    use std::time::Duration;

    use glommio::LocalExecutor;
    use glommio::timer::{Timer, timeout};
    use watershed_core::io::file::{File, OpenHow};
    use watershed_core::io::notify::thread_channel;
    use watershed_core::io::{executor, glommio as host};

    use crate::setup;

    /// Runs `test` as a task of glommio's beside one of ours that does nothing but wait for its end. No timer of ours
    /// runs, so a driver that is not told of what `test` leaves to it sleeps until the time is up.
    fn beside_the_driver<F: Future<Output = ()> + 'static>(test: F) {
        LocalExecutor::default().run(async move {
            let (ended, wait) = thread_channel::<()>();
            let driver = glommio::spawn_local(host::drive(setup::config(), || async move { wait.recv().await }));
            // Long enough for the driver to fall asleep.
            Timer::new(Duration::from_millis(5)).await;
            let whole = async move {
                test.await;
                ended.send(()).unwrap();
                driver.await.unwrap();
                Ok(())
            };
            timeout(Duration::from_secs(20), whole).await.expect("the driver is told of everything");
        });
    }

    #[test]
    fn other_tasks_of_the_thread_start_ours() {
        beside_the_driver(async {
            for number in 0..50 {
                assert_eq!(executor::spawn(async move { number }).await, number);
                Timer::new(Duration::from_micros(300)).await;
            }
        });
    }

    #[test]
    fn other_tasks_of_the_thread_sleep_by_our_timers() {
        beside_the_driver(async {
            for _ in 0..20 {
                executor::sleep(Duration::from_millis(1)).await;
                Timer::new(Duration::from_micros(300)).await;
            }
        });
    }

    #[test]
    fn other_tasks_of_the_thread_use_our_ring() {
        let path =
            std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(concat!(env!("CARGO_CRATE_NAME"), "_embedded"));
        beside_the_driver(async move {
            let how = OpenHow { create: true, truncate: true, ..OpenHow::default() };
            let file = File::open(path, how).await.unwrap();
            for number in 0..20u64 {
                file.write_at(vec![b"x".to_vec().into()], number, false).await.unwrap();
                Timer::new(Duration::from_micros(300)).await;
            }
            assert_eq!(file.len().unwrap(), 20);
            std::fs::remove_file(file.path()).unwrap();
        });
    }

    /// glommio's tasks get their turns while ours never let the thread rest.
    #[test]
    fn both_kinds_of_task_make_progress() {
        beside_the_driver(async {
            let busy = executor::spawn(async {
                let end = executor::now() + Duration::from_millis(300);
                while executor::now() < end {
                    executor::yield_now().await;
                }
            });
            let mut count = 0;
            while !busy.is_finished() {
                count += 1;
                glommio::executor().yield_now().await;
            }
            assert!(count > 100, "{count}");
        });
    }
}
