//! Applications as `/apps` shows them: what each holds, over all shards and on each.
//!
//! Invariant: a sum is that of the shards that answered; how many did not is said beside.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::metrics::ShardMetrics;
use crate::store::Holding;

/// What an application holds on one shard, or on all.
#[derive(Default)]
struct Sum {
    shuffles: usize,
    memory_bytes: u64,
    disk_bytes: u64,
    blocks: u64,
    silent_ms: u64,
}

impl Sum {
    fn of(holding: &Holding) -> Sum {
        Sum {
            shuffles: holding.shuffle_count,
            memory_bytes: holding.memory_bytes,
            disk_bytes: holding.disk_bytes,
            blocks: holding.block_count,
            silent_ms: holding.silent_us / 1000,
        }
    }

    /// The same shuffle is on many shards, and a sign of life to one of them is one.
    fn over(parts: &[(u16, Sum)]) -> Sum {
        let parts = || parts.iter().map(|(_, part)| part);
        Sum {
            shuffles: parts().map(|part| part.shuffles).max().unwrap_or_default(),
            memory_bytes: parts().map(|part| part.memory_bytes).sum(),
            disk_bytes: parts().map(|part| part.disk_bytes).sum(),
            blocks: parts().map(|part| part.blocks).sum(),
            silent_ms: parts().map(|part| part.silent_ms).min().unwrap_or_default(),
        }
    }

    fn fields(&self) -> serde_json::Map<String, Value> {
        let fields: [(&str, Value); 5] = [
            ("shuffles", self.shuffles.into()),
            ("memory_bytes", self.memory_bytes.into()),
            ("disk_bytes", self.disk_bytes.into()),
            ("blocks", self.blocks.into()),
            ("silent_ms", self.silent_ms.into()),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// The page.
pub(super) fn show(shards: &[ShardMetrics], missing_count: usize) -> Value {
    let mut found: BTreeMap<&str, Vec<(u16, Sum)>> = BTreeMap::new();
    for metrics in shards {
        for holding in &metrics.holdings {
            found.entry(&holding.application).or_default().push((metrics.shard, Sum::of(holding)));
        }
    }
    let applications: Vec<Value> = found.into_iter().map(|(name, parts)| one(name, &parts)).collect();
    json!({ "applications": applications, "shards_missing": missing_count })
}

fn one(name: &str, parts: &[(u16, Sum)]) -> Value {
    let part = |(shard, sum): &(u16, Sum)| {
        let mut fields = sum.fields();
        fields.insert("shard".to_owned(), (*shard).into());
        Value::Object(fields)
    };
    let mut fields = Sum::over(parts).fields();
    fields.insert("application".to_owned(), name.into());
    fields.insert("shards".to_owned(), parts.iter().map(part).collect());
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(shard: u16, memory_bytes: u64, silent_us: u64) -> ShardMetrics {
        let holding = Holding {
            application: "app".to_owned(),
            shuffle_count: 2,
            memory_bytes,
            disk_bytes: 10,
            block_count: 3,
            silent_us,
        };
        ShardMetrics { shard, holdings: vec![holding], ..ShardMetrics::default() }
    }

    #[test]
    fn an_application_is_summed_over_shards() {
        let page = show(&[shard(0, 100, 9_000), shard(1, 50, 4_000)], 1);
        let on = |shard, memory_bytes, silent_ms| {
            json!({ "shard": shard, "shuffles": 2, "memory_bytes": memory_bytes, "disk_bytes": 10, "blocks": 3,
                "silent_ms": silent_ms })
        };
        let expected = json!({ "shards_missing": 1, "applications": [{
            "application": "app", "shuffles": 2, "memory_bytes": 150, "disk_bytes": 20, "blocks": 6, "silent_ms": 4,
            "shards": [on(0, 100, 9), on(1, 50, 4)],
        }] });
        assert_eq!(page, expected);
    }
}
