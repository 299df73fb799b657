//! A topic that a Rust program and a Kafka client share: the program appends values of its own type and reads them in
//! place, the client sees ordinary records.
//!
//! Run it with a directory for the data: `cargo run -p watershed-examples --bin shared_topic -- DIR`

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use rkyv::rancor;
use watershed_broker::Broker;
use watershed_core::io::typed_log::TypedLog;
use watershed_examples::Client;

/// How high a river stands.
#[derive(Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Gauge {
    river: String,
    level_mm: u32,
}

fn main() -> Result<()> {
    let directory: PathBuf = std::env::args_os().nth(1).context("give a directory for the data")?.into();
    let broker = Broker::builder(&directory).start()?;
    let gauges = TypedLog::<Gauge>::new(broker.log("gauges", 0)?);

    // The program appends; what returned is on disk.
    let first = gauges.log().state()?.log_end;
    let written: Vec<Gauge> =
        [("Elbe", 2_310), ("Oder", 1_870)].map(|(river, level_mm)| Gauge { river: river.to_owned(), level_mm }).into();
    gauges.append(&written)?;

    // A Kafka client sees records, whose values are the archived bytes; it appends one of its own.
    let mut client = Client::connect(broker.local_addr())?;
    let seen = client.fetch("gauges", 0, first)?;
    let second = seen.get(1).context("two records")?;
    ensure!(rkyv::from_bytes::<Gauge, rancor::Error>(second)? == Gauge { river: "Oder".to_owned(), level_mm: 1_870 });
    let from_client = Gauge { river: "Spree".to_owned(), level_mm: 640 };
    client.produce("gauges", 0, &rkyv::to_bytes::<rancor::Error>(&from_client)?)?;

    // The program reads all three, each borrowed from the buffer of the read.
    gauges.log().await_offset(first + 2, std::time::Duration::from_secs(10))?;
    let mut offset = first;
    while offset < first + 3 {
        let mut values = gauges.read(offset)?;
        while let Some(value) = values.next() {
            let value = value?;
            println!("{}: {} stands at {} mm", value.offset, value.value.river, value.value.level_mm);
        }
        offset = values.next_offset();
    }
    broker.stop()?;
    Ok(())
}
