//! How the stage follows from the conditions, and the bounds of the event ring.

use super::*;
use std::time::SystemTime;

fn condition(name: &'static str, state: ConditionState, generation: u64) -> Condition {
    let since = SystemTime::UNIX_EPOCH;
    Condition { name, state, message: String::new(), since, deadline: None, generation }
}

#[test]
fn a_node_runs_only_when_every_controller_has_reached_the_generation() {
    use ConditionState::{Failed, Ok, Waiting};
    assert_eq!(stage(3, &[condition("a", Ok, 3), condition("b", Ok, 3)]), Stage::Running);
    assert_eq!(stage(3, &[condition("a", Ok, 3), condition("b", Ok, 2)]), Stage::Configuring);
    assert_eq!(stage(3, &[condition("a", Ok, 3), condition("b", Waiting, 3)]), Stage::Configuring);
    assert_eq!(stage(3, &[condition("a", Failed, 3), condition("b", Waiting, 3)]), Stage::Degraded);
}

#[test]
fn the_event_ring_is_bounded_and_keeps_the_newest() {
    let events = Events::new();
    for number in 0..events::EVENTS_MAX + 10 {
        events.record(Severity::Info, "Test", "node", number.to_string());
    }
    let kept = events.since(0);
    assert_eq!(kept.len(), events::EVENTS_MAX);
    assert_eq!(kept[0].sequence, 11);
    assert_eq!(events.since(events.tail(3)).len(), 3);
    assert_eq!(events.tail(0), 11);
}

#[test]
fn a_message_from_outside_is_one_bounded_line() {
    let events = Events::new();
    events.record(Severity::Info, "Test", "api", format!("a\nb\x1b[2J{}", "ä".repeat(1000)));
    let message = &events.since(0)[0].message;
    assert!(!message.contains(['\n', '\x1b']));
    assert!(message.len() < 600);
}

#[test]
fn a_repeated_report_keeps_its_since() {
    let observed = Observed::new();
    observed.report("x", ConditionState::Ok, "fine", None, 1);
    let first = observed.conditions()[0].since;
    observed.report("x", ConditionState::Ok, "fine", None, 2);
    assert_eq!(observed.conditions()[0].since, first);
    assert_eq!(observed.conditions()[0].generation, 2);
}
