//! `group`: consumer groups, how far they are behind, and where they go on.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::client::{Cluster, Committed, GroupInfo, Place};

use super::super::{Exit, Failure};
use super::table::Table;
use super::{Common, check_no_members, moment, print, print_json};

#[derive(Subcommand)]
pub(in crate::cli) enum GroupCommand {
    /// Groups with their states
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Members, committed offsets and lag of groups
    Describe {
        #[arg(required = true)]
        groups: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Set where a group without members goes on; shows what would be, until --execute
    Reset(ResetArgs),
    /// Delete groups with what they have committed
    Delete {
        #[arg(required = true)]
        groups: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Forget what a group has committed for a topic
    DeleteOffsets {
        group: String,
        /// TOPIC, or TOPIC:0,1,2
        #[arg(short, long = "topic", required = true)]
        topics: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Args)]
pub(in crate::cli) struct ResetArgs {
    group: String,
    /// TOPIC, or TOPIC:0,1,2; may be repeated
    #[arg(short, long = "topic", required_unless_present = "all_topics", conflicts_with = "all_topics")]
    topics: Vec<String>,
    /// Everything that the group has committed
    #[arg(long)]
    all_topics: bool,
    #[command(flatten)]
    to: Goal,
    /// Commit the new offsets
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    common: Common,
}

/// Where the group is to go on.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Goal {
    /// The beginning of each log
    #[arg(long)]
    to_earliest: bool,
    /// The end of each log
    #[arg(long)]
    to_latest: bool,
    /// This offset, moved into the log if it lies outside
    #[arg(long, value_name = "OFFSET")]
    to_offset: Option<i64>,
    /// The first record at or after a time: 2026-11-24T12:30:00Z, milliseconds, or '-1 h'
    #[arg(long, alias = "to-time", value_name = "TIME", value_parser = moment::parse, allow_hyphen_values = true)]
    to_datetime: Option<i64>,
    /// So many records on, or back if negative
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    shift_by: Option<i64>,
}

/// Runs `group`.
pub(super) fn run(command: GroupCommand) -> Result<(), Failure> {
    match command {
        GroupCommand::List { common } => list(&common),
        GroupCommand::Describe { groups, common } => describe(&groups, &common),
        GroupCommand::Reset(args) => reset(&args),
        GroupCommand::Delete { groups, common } => {
            let mut cluster = common.target.connect()?;
            groups.iter().try_for_each(|group| cluster.delete_group(group))?;
            match common.json {
                true => print_json(&json!({ "deleted": groups })),
                false => print(&groups.iter().map(|group| format!("deleted group {group}\n")).collect::<String>()),
            }
        }
        GroupCommand::DeleteOffsets { group, topics, common } => {
            let mut cluster = common.target.connect()?;
            let places = places(&mut cluster, &topics)?;
            cluster.delete_offsets(&group, &places)?;
            let shown: Vec<String> = places.iter().map(|(topic, partition)| format!("{topic}-{partition}")).collect();
            match common.json {
                true => print_json(&json!({ "group": group, "deleted": shown })),
                false => print(&format!("deleted the offsets of group {group} for {}\n", shown.join(", "))),
            }
        }
    }
}

fn list(common: &Common) -> Result<(), Failure> {
    let groups = common.target.connect()?.groups()?;
    if common.json {
        let row = |group: &crate::client::ListedGroup| json!({ "group": group.group, "state": group.state, "protocol_type": group.protocol_type });
        return print_json(&groups.iter().map(row).collect());
    }
    let mut table = Table::new(["GROUP", "STATE", "TYPE"]);
    for group in groups {
        table.row([group.group, group.state, group.protocol_type]);
    }
    print(&table.text())
}

fn describe(groups: &[String], common: &Common) -> Result<(), Failure> {
    let mut cluster = common.target.connect()?;
    let described: Vec<Described> =
        groups.iter().map(|group| Described::of(&mut cluster, group)).collect::<Result<_, Failure>>()?;
    match common.json {
        true => print_json(&described.iter().map(Described::json).collect()),
        false => print(&described.iter().map(Described::text).collect::<Vec<_>>().join("\n")),
    }
}

struct Described {
    info: GroupInfo,
    lines: Vec<Line>,
}

/// One partition of a group.
struct Line {
    place: Place,
    /// None where nothing is committed.
    committed: Option<i64>,
    /// None where the topic is gone.
    end: Option<i64>,
    /// Its place among the members.
    member: Option<usize>,
}

impl Line {
    fn lag(&self) -> Option<i64> {
        Some(self.end?.saturating_sub(self.committed?).max(0))
    }
}

impl Described {
    fn of(cluster: &mut Cluster, group: &str) -> Result<Described, Failure> {
        let info = cluster.group(group)?;
        let committed = cluster.committed(group)?;
        let mut members: BTreeMap<Place, usize> = BTreeMap::new();
        for (at, member) in info.members.iter().enumerate() {
            members.extend(member.partitions.iter().map(|place| (place.clone(), at)));
        }
        let mut places: Vec<Place> = committed.keys().chain(members.keys()).cloned().collect();
        places.sort();
        places.dedup();
        let ends = ends(cluster, &places)?;
        let line = |place: Place| Line {
            committed: committed.get(&place).map(|value: &Committed| value.offset),
            end: ends.get(&place).copied(),
            member: members.get(&place).copied(),
            place,
        };
        Ok(Described { lines: places.into_iter().map(line).collect(), info })
    }

    fn json(&self) -> Value {
        let info = &self.info;
        let line = |line: &Line| {
            let member = line.member.and_then(|at| info.members.get(at)).map(|member| &member.id);
            json!({ "topic": line.place.0, "partition": line.place.1, "committed": line.committed,
                "high_watermark": line.end, "lag": line.lag(), "member": member })
        };
        let member = |member: &crate::client::GroupMember| {
            let partitions: Vec<Value> = member.partitions.iter().map(|(topic, part)| json!([topic, part])).collect();
            json!({ "member": member.id, "instance": member.instance, "client_id": member.client_id,
                "host": member.host, "partitions": partitions })
        };
        let lines: Vec<Value> = self.lines.iter().map(line).collect();
        let members: Vec<Value> = info.members.iter().map(member).collect();
        let lag: i64 = self.lines.iter().filter_map(Line::lag).sum();
        json!({ "group": info.group, "state": info.state, "protocol_type": info.protocol_type,
            "protocol": info.protocol, "coordinator": info.coordinator, "members": members, "lag": lag,
            "partitions": lines })
    }

    fn text(&self) -> String {
        let info = &self.info;
        let protocol = match info.protocol.is_empty() {
            true => String::new(),
            false => format!("  assignor {}", info.protocol),
        };
        let (count, lag) = (info.members.len(), self.lines.iter().filter_map(Line::lag).sum::<i64>());
        let (group, state, coordinator) = (&info.group, &info.state, info.coordinator);
        let mut text =
            format!("group {group}  state {state}  members {count}  lag {lag}  coordinator {coordinator}{protocol}\n");
        let mut table = Table::new(["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "CLIENT", "HOST", "MEMBER"]);
        let number = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        for line in &self.lines {
            let member = line.member.and_then(|at| info.members.get(at));
            let told = |text: fn(&crate::client::GroupMember) -> &String| {
                member.map_or_else(|| "-".to_owned(), |member| text(member).clone())
            };
            table.row([
                line.place.0.clone(),
                line.place.1.to_string(),
                number(line.committed),
                number(line.end),
                number(line.lag()),
                told(|member| &member.client_id),
                told(|member| &member.host),
                told(|member| &member.id),
            ]);
        }
        text.push_str(&table.text());
        text
    }
}

/// The ends of those partitions that exist.
fn ends(cluster: &mut Cluster, places: &[Place]) -> Result<BTreeMap<Place, i64>, Failure> {
    let known: Vec<Place> = cluster
        .topics(None)?
        .into_iter()
        .flat_map(|topic| topic.partitions.into_iter().map(move |part| (topic.name.clone(), part.partition)))
        .filter(|place| places.contains(place))
        .collect();
    Ok(cluster.offsets(&known, -1)?)
}

/// The partitions that `TOPIC` and `TOPIC:0,1` name.
fn places(cluster: &mut Cluster, topics: &[String]) -> Result<Vec<Place>, Failure> {
    let mut places = Vec::new();
    for asked in topics {
        let (topic, partitions) = asked.split_once(':').unwrap_or((asked, ""));
        let there = cluster.places(topic)?;
        if partitions.is_empty() {
            places.extend(there);
            continue;
        }
        for partition in partitions.split(',') {
            let wrong =
                || Failure::new(Exit::Usage, format!("--topic {asked}: topic {topic} has no partition {partition}"));
            let place = (topic.to_owned(), partition.trim().parse().map_err(|_| wrong())?);
            places.push(Some(place).filter(|place| there.contains(place)).ok_or_else(wrong)?);
        }
    }
    Ok(places)
}

fn reset(args: &ResetArgs) -> Result<(), Failure> {
    let mut cluster = args.common.target.connect()?;
    check_no_members(&mut cluster, &args.group)?;
    let committed = cluster.committed(&args.group)?;
    let places = match args.all_topics {
        true => committed.keys().cloned().collect(),
        false => places(&mut cluster, &args.topics)?,
    };
    if places.is_empty() {
        return Err(Failure::new(Exit::Refused, format!("group {} has committed nothing", args.group)));
    }
    let goals = goals(&mut cluster, &args.to, &places, &committed)?;
    if args.execute {
        cluster.commit(&args.group, &goals)?;
    }
    show_reset(args, &committed, &goals)
}

/// The new offset of each partition, inside its log.
fn goals(
    cluster: &mut Cluster,
    to: &Goal,
    places: &[Place],
    committed: &BTreeMap<Place, Committed>,
) -> Result<BTreeMap<Place, i64>, Failure> {
    let (starts, ends) = (cluster.offsets(places, -2)?, cluster.offsets(places, -1)?);
    let timed = match to.to_datetime {
        Some(timestamp) => cluster.offsets_or_end(places, timestamp)?,
        None => BTreeMap::new(),
    };
    let mut goals = BTreeMap::new();
    for place in places {
        let (start, end) = (of(&starts, place), of(&ends, place));
        let goal = if to.to_earliest {
            start
        } else if to.to_latest {
            end
        } else if let Some(offset) = to.to_offset {
            offset
        } else if let Some(by) = to.shift_by {
            let (topic, partition) = place;
            let from = committed.get(place).ok_or_else(|| {
                let why = format!("nothing is committed for {topic}-{partition}, so there is nothing to shift");
                Failure::new(Exit::Refused, why)
            })?;
            from.offset.saturating_add(by)
        } else {
            of(&timed, place)
        };
        goals.insert(place.clone(), goal.clamp(start, end.max(start)));
    }
    Ok(goals)
}

fn of(offsets: &BTreeMap<Place, i64>, place: &Place) -> i64 {
    offsets.get(place).copied().unwrap_or_default()
}

fn show_reset(
    args: &ResetArgs,
    committed: &BTreeMap<Place, Committed>,
    goals: &BTreeMap<Place, i64>,
) -> Result<(), Failure> {
    let before = |place: &Place| committed.get(place).map(|value| value.offset);
    if args.common.json {
        let row = |(place, goal): (&Place, &i64)| json!({ "topic": place.0, "partition": place.1, "before": before(place), "after": goal });
        let rows: Vec<Value> = goals.iter().map(row).collect();
        return print_json(&json!({ "group": args.group, "executed": args.execute, "partitions": rows }));
    }
    let mut table = Table::new(["TOPIC", "PARTITION", "BEFORE", "AFTER"]);
    for (place, goal) in goals {
        let before = before(place).map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        table.row([place.0.clone(), place.1.to_string(), before, goal.to_string()]);
    }
    print(&table.text())?;
    if !args.execute {
        eprintln!("nothing was changed; --execute commits these offsets");
    }
    Ok(())
}
