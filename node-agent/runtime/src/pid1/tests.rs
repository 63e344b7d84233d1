//! A scripted PID 1 at the other end of the socket.

use super::*;

fn fake() -> (OwnedFd, OwnedFd) {
    packet::pair().unwrap()
}

fn next_request(socket: &OwnedFd) -> (FromAgent, Option<OwnedFd>) {
    let mut bytes = [0; MESSAGE_LENGTH_MAX];
    let received = packet::receive(socket, &mut bytes).unwrap();
    let request = FromAgent::decode(&bytes[..received.length]).unwrap();
    (request, received.descriptors.into_iter().next())
}

fn say(socket: &OwnedFd, message: FromInit) {
    packet::send(socket, &message.encode(), &[]).unwrap();
}

const EXIT: Exit = Exit { pid: 7, start_time: 9, wait_status: 256, ended_at_ns: 1 };

async fn connected() -> (Pid1, std::thread::JoinHandle<OwnedFd>) {
    let (ours, theirs) = fake();
    let greeter = std::thread::spawn(move || {
        let (hello, _) = next_request(&theirs);
        let reply = Reply::Hello { restarts: 3, started_at_ns: 5 };
        say(&theirs, FromInit::Reply { id: hello.id, reply });
        theirs
    });
    let (pid1, hello) = Pid1::connect(ours).await.unwrap();
    assert_eq!(hello, Hello { restarts: 3, started_at_ns: 5 });
    (pid1, greeter)
}

#[tokio::test]
async fn an_exit_that_arrives_before_the_reply_to_its_watch_is_delivered() {
    let (pid1, greeter) = connected().await;
    let theirs = greeter.join().unwrap();
    let init = std::thread::spawn(move || {
        let (watch, _) = next_request(&theirs);
        say(&theirs, FromInit::Notice(Notice::Exit(EXIT)));
        say(&theirs, FromInit::Reply { id: watch.id, reply: Reply::Done });
        theirs
    });
    let receiver = pid1.watch((7, 9)).await.unwrap().unwrap();
    assert_eq!(receiver.await.unwrap(), EXIT);
    drop(init.join().unwrap());
}

#[tokio::test]
async fn a_process_nobody_knows_is_none() {
    let (pid1, greeter) = connected().await;
    let theirs = greeter.join().unwrap();
    let init = std::thread::spawn(move || {
        let (watch, _) = next_request(&theirs);
        say(&theirs, FromInit::Reply { id: watch.id, reply: Reply::Refused(Refusal::NotFound) });
        theirs
    });
    assert!(pid1.watch((7, 9)).await.unwrap().is_none());
    drop(init.join().unwrap());
}

#[tokio::test]
async fn exits_of_unknown_processes_are_acknowledged() {
    let (pid1, greeter) = connected().await;
    let theirs = greeter.join().unwrap();
    let init = std::thread::spawn(move || {
        let (replay, _) = next_request(&theirs);
        say(&theirs, FromInit::Notice(Notice::Exit(EXIT)));
        say(&theirs, FromInit::Reply { id: replay.id, reply: Reply::Done });
        let (acknowledge, _) = next_request(&theirs);
        assert_eq!(acknowledge.request, Request::AcknowledgeExit { pid: 7, start_time: 9 });
        say(&theirs, FromInit::Reply { id: acknowledge.id, reply: Reply::Done });
        theirs
    });
    pid1.replay_exits().await.unwrap();
    assert_eq!(pid1.acknowledge_unclaimed().await.unwrap(), 1);
    drop(init.join().unwrap());
}

#[tokio::test]
async fn an_exit_that_is_told_again_is_not_acknowledged_before_its_owner_does() {
    let (pid1, greeter) = connected().await;
    let theirs = greeter.join().unwrap();
    let init = std::thread::spawn(move || {
        let (watch, _) = next_request(&theirs);
        // Once unasked, as after Hello, and once because of the watch.
        say(&theirs, FromInit::Notice(Notice::Exit(EXIT)));
        say(&theirs, FromInit::Notice(Notice::Exit(EXIT)));
        say(&theirs, FromInit::Reply { id: watch.id, reply: Reply::Done });
        let (replay, _) = next_request(&theirs);
        say(&theirs, FromInit::Notice(Notice::Exit(EXIT)));
        say(&theirs, FromInit::Reply { id: replay.id, reply: Reply::Done });
        theirs
    });
    let receiver = pid1.watch((7, 9)).await.unwrap().unwrap();
    assert_eq!(receiver.await.unwrap(), EXIT);
    pid1.replay_exits().await.unwrap();
    assert_eq!(pid1.acknowledge_unclaimed().await.unwrap(), 0);
    drop(init.join().unwrap());
}

#[tokio::test]
async fn the_end_of_the_machine_is_announced() {
    let (pid1, greeter) = connected().await;
    let theirs = greeter.join().unwrap();
    say(&theirs, FromInit::Notice(Notice::Stopping { how: End::PowerOff, grace_ms: 1500 }));
    let mut stopping = pid1.stopping();
    stopping.changed().await.unwrap();
    let expected = Stopping { how: End::PowerOff, grace: Duration::from_millis(1500) };
    assert_eq!(*stopping.borrow(), Some(expected));
}

#[tokio::test]
async fn a_closed_socket_is_an_error_and_no_hang() {
    let (pid1, greeter) = connected().await;
    drop(greeter.join().unwrap());
    assert!(matches!(pid1.services().await, Err(Pid1Error::Closed)));
}
