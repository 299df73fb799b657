//! Who of a group reads which partitions: what consumers say to each other inside the requests of a group.
//!
//! Owns Kafka's layout of subscriptions and assignments in version 0, which every version begins with, and the assignor
//! `range`. Reads any version and leaves alone what follows.

use std::collections::{BTreeMap, BTreeSet};

use crate::wire::reader::{Reader, WireError};
use crate::wire::writer::Writer;

use super::Place;

/// The name of the assignor.
pub(super) const RANGE: &str = "range";

/// A member that wants topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subscriber {
    pub(super) id: String,
    /// Of a static member.
    pub(super) instance: Option<String>,
    pub(super) topics: BTreeSet<String>,
}

/// A subscription to these topics.
pub(super) fn subscription(topics: &[String]) -> Vec<u8> {
    let mut w = Writer::new(false);
    w.i16(0);
    w.array(topics, |w, topic| w.str(topic));
    w.nullable_bytes(None);
    w.into_bytes()
}

/// The topics of a subscription.
pub(super) fn topics(subscription: &[u8]) -> Result<BTreeSet<String>, WireError> {
    let mut reader = Reader::new(subscription, false);
    reader.i16("version")?;
    Ok(reader.array("topics", 2, |reader| reader.string("topic"))?.into_iter().collect())
}

/// An assignment of these partitions.
pub(super) fn bytes(places: &[Place]) -> Vec<u8> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in places {
        topics.entry(topic).or_default().push(*partition);
    }
    let topics: Vec<(&str, Vec<i32>)> = topics.into_iter().collect();
    let mut w = Writer::new(false);
    w.i16(0);
    w.array(&topics, |w, (topic, partitions)| {
        w.str(topic);
        w.array(partitions, |w, partition| w.i32(*partition));
    });
    w.nullable_bytes(None);
    w.into_bytes()
}

/// The partitions of an assignment. A member that gets none may be told so by no bytes at all.
pub(super) fn places(assignment: &[u8]) -> Result<Vec<Place>, WireError> {
    if assignment.is_empty() {
        return Ok(Vec::new());
    }
    let mut reader = Reader::new(assignment, false);
    reader.i16("version")?;
    let topics = reader.array("topics", 6, |reader| {
        Ok((reader.string("topic")?, reader.array("partitions", 4, |reader| reader.i32("partition"))?))
    })?;
    let places = topics.into_iter();
    Ok(places.flat_map(|(topic, partitions)| partitions.into_iter().map(move |part| (topic.clone(), part))).collect())
}

/// Of each topic, neighbouring partitions for each member that wants it; where they do not divide evenly, the first members
/// get one more. Static members come first, in the order of their names, then the others in the order of their ids.
pub(super) fn range(mut members: Vec<Subscriber>, counts: &BTreeMap<String, i32>) -> BTreeMap<String, Vec<Place>> {
    let order = |member: &Subscriber| {
        let name = member.instance.clone().unwrap_or_else(|| member.id.clone());
        (member.instance.is_none(), name)
    };
    members.sort_by_key(order);
    let mut assigned: BTreeMap<String, Vec<Place>> =
        members.iter().map(|member| (member.id.clone(), Vec::new())).collect();
    for (topic, &count) in counts {
        let takers: Vec<&Subscriber> = members.iter().filter(|member| member.topics.contains(topic)).collect();
        let mut left = takers.len();
        let mut next = 0;
        for taker in takers {
            let share = share(count - next, left);
            let places = (next..next + share).map(|partition| (topic.clone(), partition));
            assigned.entry(taker.id.clone()).or_default().extend(places);
            (next, left) = (next + share, left - 1);
        }
    }
    assigned
}

/// What the first of `takers` gets: its part, rounded up.
fn share(count: i32, takers: usize) -> i32 {
    let takers = i32::try_from(takers).unwrap_or(i32::MAX).max(1);
    count / takers + i32::from(count % takers > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_its_partitions() {
        let read = [0, 1, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff];
        let wanted = [("t".to_owned(), 3), ("t".to_owned(), 5)];
        assert_eq!(places(&read).unwrap(), wanted);
        assert_eq!(places(&bytes(&wanted)).unwrap(), wanted);
        assert!(places(&read[..10]).is_err());
        assert!(places(&[0, 1, 0x7f, 0xff, 0xff, 0xff]).is_err(), "a count beyond the bytes");
        assert_eq!(places(&[]).unwrap(), []);
    }

    #[test]
    fn a_subscription_is_its_topics() {
        let bytes = subscription(&["b".to_owned(), "a".to_owned()]);
        assert_eq!(bytes, [0, 0, 0, 0, 0, 2, 0, 1, b'b', 0, 1, b'a', 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(topics(&bytes).unwrap(), BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn range_gives_neighbours_and_the_rest_to_the_first() {
        let member = |id: &str, instance: Option<&str>, topics: &[&str]| Subscriber {
            id: id.to_owned(),
            instance: instance.map(str::to_owned),
            topics: topics.iter().map(ToString::to_string).collect(),
        };
        let members = vec![member("c", None, &["t", "u"]), member("b", None, &["t"]), member("z", Some("a"), &["t"])];
        let counts = BTreeMap::from([("t".to_owned(), 7), ("u".to_owned(), 2)]);
        let assigned = range(members, &counts);
        let numbers = |id: &str, topic: &str| {
            let of_topic = assigned[id].iter().filter(|place| place.0 == topic);
            of_topic.map(|place| place.1).collect::<Vec<_>>()
        };
        assert_eq!(numbers("z", "t"), [0, 1, 2], "static members come first");
        assert_eq!((numbers("b", "t"), numbers("c", "t")), (vec![3, 4], vec![5, 6]));
        assert_eq!((numbers("b", "u"), numbers("c", "u")), (vec![], vec![0, 1]));
        let few = range(vec![member("a", None, &["t"]), member("b", None, &["t"])], &BTreeMap::from([("t".into(), 1)]));
        assert_eq!((few["a"].len(), few["b"].len()), (1, 0), "more members than partitions");
    }
}
