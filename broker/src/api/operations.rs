//! Operations: the bit sets of what a client may do, as KIP-430 asks for them. Without an authorizer: everything.

/// "Not asked for."
const OMITTED: i32 = i32::MIN;

const READ: u8 = 3;
const WRITE: u8 = 4;
const CREATE: u8 = 5;
const DELETE: u8 = 6;
const ALTER: u8 = 7;
const DESCRIBE: u8 = 8;
const CLUSTER_ACTION: u8 = 9;
const DESCRIBE_CONFIGS: u8 = 10;
const ALTER_CONFIGS: u8 = 11;
const IDEMPOTENT_WRITE: u8 = 12;

const TOPIC: [u8; 8] = [READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS];
const CLUSTER: [u8; 7] = [CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE];
const GROUP: [u8; 5] = [READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS];

/// What may be done to a topic.
pub(crate) fn topic(asked: bool) -> i32 {
    of(asked, &TOPIC)
}

/// What may be done to a group.
pub(crate) fn group(asked: bool) -> i32 {
    of(asked, &GROUP)
}

/// What may be done to the cluster.
pub(crate) fn cluster(asked: bool) -> i32 {
    of(asked, &CLUSTER)
}

fn of(asked: bool, operations: &[u8]) -> i32 {
    match asked {
        true => operations.iter().fold(0, |bits, operation| bits | 1 << operation),
        false => OMITTED,
    }
}
