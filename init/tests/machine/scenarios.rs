//! The bad days, by name.

use ingot_init::supervise::{
    BACKOFF_FLOOR, BACKOFF_MAX, Event, FEED_EVERY, Helper, Line, Phase, RECENT_MAX,
    SILENCE_DEADLINE, SOCKET_DEADLINE, STEADY_AFTER, STOP_DEADLINE, UNKNOWN_STATUS,
};
use ingot_init_api::{
    End, Name, Refusal, Reply, Request, STORED_FDS_MAX, Service, ServiceState, WATCHES_MAX,
};

use crate::fake::{KILLED, Kind, Machine, TERMINATED};

fn name(text: &str) -> Name {
    Name::new(text).expect("a valid name")
}

/// A watched process that is no agent; gives pid and start time.
fn watched(machine: &mut Machine) -> (i32, u64) {
    let pid = machine.kernel.fork(Kind::Other, false).expect("a free pid");
    let start_time = machine.kernel.alive[&pid].start_time;
    assert_eq!(machine.ask(Request::Watch { pid, start_time }), Some(Reply::Done));
    (pid, start_time)
}

fn service(machine: &mut Machine) -> Service {
    match machine.ask(Request::ServiceAt { index: 0 }) {
        Some(Reply::Service(service)) => service,
        other => panic!("not a service: {other:?}"),
    }
}

#[test]
fn an_agent_killed_again_and_again_is_back_at_once_each_time() {
    let mut machine = Machine::up();
    for restart in 1..=100 {
        machine.pass(STEADY_AFTER + 2_000);
        machine.crash_agent(KILLED);
        machine.pass(BACKOFF_FLOOR);
        assert!(
            matches!(machine.ask(Request::Hello), Some(Reply::Hello { restarts, .. }) if restarts == restart)
        );
    }
}

#[test]
fn a_crash_loop_slows_down_to_ten_seconds_and_never_stops_trying() {
    let mut machine = Machine::boot();
    let mut pauses = Vec::new();
    for _ in 0..14 {
        machine.crash_agent(1 << 8);
        let down = machine.kernel.clock;
        while machine.kernel.agent().is_none() {
            let next = machine.state.deadline();
            machine.pass(next - machine.kernel.clock);
        }
        pauses.push(machine.kernel.clock - down);
    }
    assert_eq!(pauses[..5], [20, 40, 80, 160, 320]);
    assert_eq!(pauses[12..], [BACKOFF_MAX, BACKOFF_MAX]);
    // One good life, and the next restart is immediate.
    machine.ask(Request::Hello);
    machine.pass(STEADY_AFTER);
    machine.crash_agent(1 << 8);
    machine.pass(BACKOFF_FLOOR);
    assert!(machine.kernel.agent().is_some());
}

#[test]
fn an_agent_that_cannot_be_executed_is_a_crash_loop_and_no_busy_loop() {
    let mut machine = Machine::boot();
    machine.kernel.faults.agent_does_not_start = true;
    machine.crash_agent(127 << 8);
    machine.pass(60_000);
    let tries = machine
        .kernel
        .lines
        .iter()
        .filter(|line| matches!(line, Line::AgentNotStarted { .. }))
        .count();
    assert!((10..30).contains(&tries), "{tries} tries in a minute");
    machine.kernel.faults.agent_does_not_start = false;
    machine.pass(BACKOFF_MAX);
    assert!(machine.kernel.agent().is_some());
}

#[test]
fn the_death_of_the_agent_hurts_nobody_else() {
    let mut machine = Machine::up();
    let (pod, _) = watched(&mut machine);
    machine.crash_agent(KILLED);
    machine.pass(1_000);
    assert!(machine.kernel.alive.contains_key(&pod));
}

#[test]
fn an_exit_is_told_to_each_new_agent_until_it_is_acknowledged() {
    let mut machine = Machine::up();
    let (pid, start_time) = watched(&mut machine);
    machine.end(pid, 7 << 8);
    for _ in 0..3 {
        let told = machine.told_exits();
        assert_eq!(told.len(), 1);
        assert_eq!(
            (told[0].pid, told[0].start_time, told[0].wait_status),
            (pid, start_time, 7 << 8)
        );
        machine.crash_agent(KILLED);
        machine.pass(BACKOFF_MAX);
        assert_eq!(machine.told_exits(), [], "nothing is said before hello");
        machine.ask(Request::Hello);
    }
    machine.ask(Request::AcknowledgeExit { pid, start_time });
    machine.crash_agent(KILLED);
    machine.pass(BACKOFF_MAX);
    machine.ask(Request::Hello);
    machine.told_exits();
    assert_eq!(machine.ask(Request::ReplayExits), Some(Reply::Done));
    assert_eq!(machine.told_exits(), []);
}

#[test]
fn an_exit_while_no_agent_runs_is_not_lost() {
    let mut machine = Machine::up();
    let (pid, _) = watched(&mut machine);
    machine.crash_agent(KILLED);
    machine.end(pid, 3 << 8);
    machine.pass(BACKOFF_MAX);
    machine.ask(Request::Hello);
    assert_eq!(machine.told_exits().len(), 1);
}

#[test]
fn a_watch_set_just_after_the_end_still_finds_it() {
    let mut machine = Machine::up();
    let pid = machine.kernel.fork(Kind::Other, false).expect("a free pid");
    let start_time = machine.kernel.alive[&pid].start_time;
    machine.end(pid, 5 << 8);
    assert_eq!(machine.ask(Request::Watch { pid, start_time }), Some(Reply::Done));
    assert_eq!(machine.told_exits().len(), 1);
    let other = Request::Watch { pid, start_time: start_time + 1 };
    assert_eq!(machine.ask(other), Some(Reply::Refused(Refusal::NotFound)));
}

#[test]
fn a_reused_pid_is_not_taken_for_the_watched_process() {
    let mut machine = Machine::up();
    let (pid, start_time) = watched(&mut machine);
    machine.end(pid, 1 << 8);
    let again =
        std::iter::repeat_with(|| machine.kernel.fork(Kind::Other, false).expect("a free pid"))
            .find(|other| *other == pid)
            .expect("pids are reused");
    machine.told_exits();
    machine.end(again, 2 << 8);
    machine.ask(Request::ReplayExits);
    let told = machine.told_exits();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].start_time, told[0].wait_status), (start_time, 1 << 8));
}

#[test]
fn a_watched_process_that_somebody_else_collected_ends_with_the_unknown_status() {
    let mut machine = Machine::up();
    let (pid, _) = watched(&mut machine);
    machine.kernel.alive.remove(&pid);
    machine.crash_agent(KILLED);
    machine.pass(BACKOFF_MAX);
    machine.ask(Request::Hello);
    let told = machine.told_exits();
    assert_eq!(told.iter().map(|exit| exit.wait_status).collect::<Vec<_>>(), [UNKNOWN_STATUS]);
}

#[test]
fn replayed_exits_come_before_the_reply_that_says_they_are_all() {
    let mut machine = Machine::up();
    let (pid, _) = watched(&mut machine);
    machine.end(pid, 0);
    machine.kernel.inbox.clear();
    machine.ask(Request::ReplayExits);
    assert_eq!(machine.kernel.inbox.len(), 2);
    assert!(matches!(machine.kernel.inbox[0].0, ingot_init_api::FromInit::Notice(_)));
}

#[test]
fn a_full_socket_delays_and_loses_nothing() {
    let mut machine = Machine::up();
    let (pid, _) = watched(&mut machine);
    machine.kernel.faults.socket_full = true;
    machine.end(pid, 0);
    assert_eq!(machine.ask(Request::ReplayExits), None, "no answer fits the socket");
    assert!(!machine.state.takes_requests(), "nothing is read while an answer waits");
    machine.kernel.faults.socket_full = false;
    machine.event(Event::Tick);
    assert_eq!(machine.told_exits().len(), 1);
    assert!(machine.state.takes_requests());
}

#[test]
fn descriptors_survive_the_agent_under_their_names() {
    let mut machine = Machine::up();
    let store = |name| Request::StoreFd { name };
    assert_eq!(machine.ask_with(store(name("b")), Some(1)), Some((Reply::Done, None)));
    assert_eq!(machine.ask_with(store(name("a")), Some(2)), Some((Reply::Done, None)));
    assert_eq!(machine.ask_with(store(name("b")), Some(3)), Some((Reply::Done, None)), "replaced");
    machine.crash_agent(KILLED);
    machine.pass(BACKOFF_MAX);
    machine.ask(Request::Hello);
    let get = |name| Request::GetFd { name };
    assert_eq!(machine.ask_with(get(name("b")), None), Some((Reply::Fd, Some(3))));
    assert_eq!(
        machine.ask(Request::NameAt { index: 0 }),
        Some(Reply::StoredName { name: name("a") })
    );
    assert_eq!(machine.ask(Request::NameAt { index: 2 }), Some(Reply::Refused(Refusal::NotFound)));
    assert_eq!(machine.ask(Request::DropFd { name: name("b") }), Some(Reply::Done));
    assert_eq!(machine.ask(get(name("b"))), Some(Reply::Refused(Refusal::NotFound)));
    assert_eq!(
        machine.ask(Request::DropFd { name: name("b") }),
        Some(Reply::Done),
        "nothing to drop"
    );
}

#[test]
fn a_descriptor_too_many_or_too_few_is_refused() {
    let mut machine = Machine::up();
    let wrong = Some((Reply::Refused(Refusal::WrongFd), None));
    assert_eq!(machine.ask_with(Request::StoreFd { name: name("a") }, None), wrong);
    assert_eq!(machine.ask_with(Request::ReadyToEnd, Some(1)), wrong);
    machine.event(Event::Malformed);
    assert!(machine.kernel.inbox.iter().any(|(message, _)| matches!(
        message,
        ingot_init_api::FromInit::Reply { id: 0, reply: Reply::Refused(Refusal::Malformed) }
    )));
}

#[test]
fn full_tables_refuse_and_go_on_working() {
    let mut machine = Machine::up();
    for fd in 0..STORED_FDS_MAX {
        let request = Request::StoreFd { name: name(&format!("fd/{fd}")) };
        assert_eq!(machine.ask_with(request, Some(0)), Some((Reply::Done, None)));
        machine.kernel.inbox.clear();
    }
    let one_more = Request::StoreFd { name: name("more") };
    assert_eq!(machine.ask_with(one_more, Some(0)), Some((Reply::Refused(Refusal::Full), None)));
    let replaced = Request::StoreFd { name: name("fd/7") };
    assert_eq!(machine.ask_with(replaced, Some(0)), Some((Reply::Done, None)));

    for _ in 0..WATCHES_MAX {
        let (pid, _) = watched(&mut machine);
        machine.end(pid, 0);
        machine.kernel.inbox.clear();
    }
    let pid = machine.kernel.fork(Kind::Other, false).expect("a free pid");
    let start_time = machine.kernel.alive[&pid].start_time;
    assert_eq!(
        machine.ask(Request::Watch { pid, start_time }),
        Some(Reply::Refused(Refusal::Full))
    );
    for _ in 0..RECENT_MAX + 10 {
        let pid = machine.kernel.fork(Kind::Other, false).expect("a free pid");
        machine.end(pid, 0);
    }
    assert_eq!(machine.state.sizes(), (WATCHES_MAX, RECENT_MAX, STORED_FDS_MAX));
}

#[test]
fn an_agent_that_closes_its_socket_is_given_a_moment_and_then_restarted() {
    let mut machine = Machine::up();
    machine.kernel.faults.agent_ignores_term = true;
    machine.event(Event::SocketLost);
    assert_eq!(machine.kernel.signals, []);
    machine.pass(SOCKET_DEADLINE);
    assert_eq!(machine.kernel.signals.len(), 1, "SIGTERM");
    machine.pass(STOP_DEADLINE);
    assert!(machine.kernel.signals[1].1, "SIGKILL");
    machine.pass(BACKOFF_FLOOR);
    assert_eq!(machine.kernel.agents_started, 2);
}

#[test]
fn an_agent_that_closes_its_socket_before_it_read_its_reply_is_restarted_too() {
    let mut machine = Machine::up();
    machine.kernel.faults.socket_full = true;
    assert_eq!(machine.ask(Request::ReplayExits), None, "no answer fits the socket");
    machine.hang_up();
    machine.pass(SOCKET_DEADLINE);
    assert_eq!(machine.kernel.signals.len(), 1, "SIGTERM");
    machine.pass(BACKOFF_FLOOR);
    assert_eq!(machine.kernel.agents_started, 2);
}

#[test]
fn an_agent_that_never_says_hello_is_killed_and_started_again() {
    let mut machine = Machine::boot();
    machine.pass(SILENCE_DEADLINE + BACKOFF_FLOOR);
    assert!(machine.kernel.lines.contains(&Line::AgentSilent));
    assert_eq!(machine.kernel.agents_started, 2);
}

#[test]
fn an_agent_that_falls_silent_is_killed_and_one_that_speaks_is_not() {
    let mut machine = Machine::up();
    for _ in 0..3 {
        machine.pass(SILENCE_DEADLINE - 1);
        service(&mut machine);
    }
    assert_eq!(machine.kernel.agents_started, 1);
    machine.pass(SILENCE_DEADLINE + BACKOFF_FLOOR);
    assert!(machine.kernel.lines.contains(&Line::AgentSilent));
    assert_eq!(machine.kernel.agents_started, 2);
}

#[test]
fn the_agent_can_restart_itself_but_not_be_stopped() {
    let mut machine = Machine::up();
    let agent = name("ingotd");
    assert_eq!(
        machine.ask(Request::StopService { name: agent }),
        Some(Reply::Refused(Refusal::NotAllowed))
    );
    assert_eq!(
        machine.ask(Request::StartService { name: name("other") }),
        Some(Reply::Refused(Refusal::NotFound))
    );
    assert_eq!(service(&mut machine).state, ServiceState::Running);
    machine.send(Request::RestartService { name: agent, kill: false }, None);
    machine.pass(BACKOFF_FLOOR);
    machine.ask(Request::Hello);
    let service = service(&mut machine);
    assert_eq!((service.restarts, service.last_wait_status), (1, Some(TERMINATED)));
}

#[test]
fn a_quiet_machine_feeds_the_watchdog_and_does_nothing_else() {
    let mut machine = Machine::up();
    let lines = machine.kernel.lines.len();
    for _ in 0..10 {
        machine.pass(FEED_EVERY);
        service(&mut machine);
    }
    let gaps = machine.kernel.fed_at.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert_eq!(gaps, Some(FEED_EVERY));
    assert_eq!(machine.kernel.lines.len(), lines);
}

#[test]
fn the_end_asks_the_agent_first_and_waits_no_longer_than_needed() {
    let mut machine = Machine::up();
    let (pod, _) = watched(&mut machine);
    let end = Request::EndMachine { how: End::PowerOff, grace_ms: 60_000 };
    assert_eq!(machine.ask(end), Some(Reply::Done));
    assert!(machine.told_of_end());
    assert!(machine.kernel.progress_shown);
    assert_eq!(machine.ask(end), Some(Reply::Refused(Refusal::NotAllowed)), "once is enough");
    machine.pass(5_000);
    assert!(machine.kernel.alive.contains_key(&pod), "the agent has its time");
    let before = machine.kernel.clock;
    machine.send(Request::ReadyToEnd, None);
    assert_eq!(machine.kernel.ended, Some(End::PowerOff));
    assert_eq!(machine.kernel.clock, before);
    assert_eq!(machine.kernel.helpers, [Helper::Sync, Helper::Unmount]);
}

#[test]
fn an_agent_that_dies_while_the_machine_ends_comes_back_and_is_told_again() {
    let mut machine = Machine::up();
    machine.ask(Request::EndMachine { how: End::Reboot, grace_ms: 30_000 });
    machine.crash_agent(KILLED);
    machine.pass(BACKOFF_MAX);
    machine.ask(Request::Hello);
    assert!(machine.told_of_end());
    assert_eq!(machine.told_grace(), Some(20_000), "what is left of it");
    machine.pass(30_000);
    assert_eq!(machine.kernel.ended, Some(End::Reboot));
}

#[test]
fn the_power_button_during_a_restart_of_the_agent_powers_off() {
    let mut machine = Machine::boot();
    // A crash loop, so that the button is pressed in a long pause.
    for _ in 0..12 {
        machine.crash_agent(1 << 8);
        machine.event(Event::EndWanted(End::PowerOff));
        if machine.state.deadline() > machine.kernel.clock + 100 {
            break;
        }
        machine = Machine::boot();
        for _ in 0..10 {
            machine.crash_agent(1 << 8);
            machine.pass(BACKOFF_MAX);
        }
    }
    assert_eq!(machine.kernel.agent(), None);
    machine.pass(31_000);
    assert_eq!(machine.kernel.ended, Some(End::PowerOff));
}

#[test]
fn a_second_press_does_not_wait_for_pods_but_a_bouncing_button_is_one_press() {
    let mut machine = Machine::up();
    machine.event(Event::EndWanted(End::PowerOff));
    machine.event(Event::EndWanted(End::PowerOff));
    machine.pass(500);
    assert_eq!(machine.kernel.ended, None);
    machine.pass(1_000);
    machine.event(Event::EndWanted(End::PowerOff));
    assert_eq!(machine.kernel.ended, Some(End::PowerOff));
}

#[test]
fn a_stuck_unmount_is_given_up_and_the_machine_still_ends() {
    let mut machine = Machine::up();
    machine.kernel.faults.stuck_helper = Some(Helper::Unmount);
    machine.event(Event::EndWanted(End::Reboot));
    machine.pass(120_000);
    assert_eq!(machine.kernel.helpers, [Helper::Sync, Helper::Unmount, Helper::Detach]);
    assert!(machine.kernel.lines.contains(&Line::StepTimedOut(Phase::Unmounting)));
    assert_eq!(machine.kernel.ended, Some(End::Reboot));
}

#[test]
fn busy_file_systems_are_detached() {
    let mut machine = Machine::up();
    machine.kernel.faults.failing_helper = Some(Helper::Unmount);
    machine.ask(Request::EndMachine { how: End::Reboot, grace_ms: 0 });
    assert_eq!(machine.kernel.helpers, [Helper::Sync, Helper::Unmount, Helper::Detach]);
    assert_eq!(machine.kernel.ended, Some(End::Reboot));
}

#[test]
fn processes_that_ignore_sigterm_or_cannot_be_killed_do_not_stop_the_end() {
    let mut machine = Machine::up();
    machine.kernel.faults.others_ignore_term = true;
    machine.kernel.faults.agent_ignores_term = true;
    machine.kernel.fork(Kind::Other, false);
    machine.kernel.fork(Kind::Other, true);
    machine.ask(Request::EndMachine { how: End::PowerOff, grace_ms: 1_000 });
    machine.pass(60_000);
    assert!(machine.kernel.lines.contains(&Line::StepTimedOut(Phase::Terminating)));
    assert!(machine.kernel.lines.contains(&Line::StepTimedOut(Phase::Killing)));
    assert_eq!(machine.kernel.ended, Some(End::PowerOff));
}

#[test]
fn an_end_the_kernel_refuses_falls_back_to_the_next_best() {
    let end = |how, refused: &[End]| {
        let mut machine = Machine::up();
        machine.kernel.faults.refused_ends = refused.to_vec();
        machine.ask(Request::EndMachine { how, grace_ms: 0 });
        (machine.kernel.ends, machine.kernel.gave_up)
    };
    assert_eq!(end(End::Kexec, &[End::Kexec]), (vec![End::Kexec, End::Reboot], false));
    assert_eq!(end(End::PowerOff, &[End::PowerOff]), (vec![End::PowerOff, End::Halt], false));
    let (ends, gave_up) = end(End::Kexec, &[End::Kexec, End::Reboot]);
    assert_eq!((ends.len(), gave_up), (2, true), "PID 1 leaves, and the kernel panics");
}
