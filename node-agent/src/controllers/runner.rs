//! The one loop around every controller: wakes on a new config, on the controller's own events and on time; runs it,
//! reports its condition, and backs off after failures.

use super::{Controller, Outcome, Want};
use crate::report;
use crate::state::desired::Wish;
use crate::state::{ConditionState, State};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// First pause after a failure; doubled each time.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// Longest pause after a failure.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Work that takes longer than this is shown.
const SLOW: Duration = Duration::from_secs(2);
/// Rounds of observe, plan, apply before a plan that never becomes empty counts as a failure.
const ROUNDS_MAX: u32 = 8;

/// Runs a controller for ever.
pub(crate) async fn run<C: Controller>(mut controller: C, state: State) {
    let mut wish = state.desired.subscribe();
    let mut failures = 0;
    loop {
        let want = want(&mut wish);
        let idle = want.config.is_none() && !C::WITHOUT_CONFIG;
        let mut pause = None;
        if !idle && !state.is_stopping() {
            let outcome = match watched(&mut controller, &want, &state).await {
                Ok(outcome) => outcome,
                Err(error) => Outcome::Failed(report::chain(error.as_ref())),
            };
            pause = match &outcome {
                Outcome::Failed(_) => Some(backoff(failures)),
                Outcome::Ok(_) | Outcome::Waiting(..) => controller.resync(),
            };
            failures = if matches!(outcome, Outcome::Failed(_)) { failures + 1 } else { 0 };
            publish::<C>(&state, &want, outcome, failures);
        }
        let timer = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        // All arms are cancel safe: a change stays marked unseen, a timer is made anew, `woken` promises it.
        tokio::select! {
            changed = wish.changed() => if changed.is_err() { return } else { failures = 0 },
            () = controller.woken(), if !idle => {}
            () = timer => {}
        }
    }
}

fn want(wish: &mut watch::Receiver<Wish>) -> Want {
    match &*wish.borrow_and_update() {
        Wish::Config(config) => Want { config: Some(config.clone()) },
        Wish::Unknown | Wish::Nothing => Want::default(),
    }
}

/// Runs the rounds, and says in the condition what they are at when that takes long.
async fn watched<C: Controller>(
    controller: &mut C,
    want: &Want,
    state: &State,
) -> anyhow::Result<Outcome> {
    let doing = Mutex::new(String::new());
    let work = rounds(controller, want, &doing);
    tokio::pin!(work);
    loop {
        // The work goes on where it was after each look at the clock.
        tokio::select! {
            result = &mut work => return result,
            () = tokio::time::sleep(SLOW) => {
                let doing = doing.lock().unwrap_or_else(PoisonError::into_inner).clone();
                publish::<C>(state, want, Outcome::Waiting(doing, None), 0);
            }
        }
    }
}

/// Observes, plans and applies until there is nothing left to do. `doing` is what is being done.
async fn rounds<C: Controller>(
    controller: &mut C,
    want: &Want,
    doing: &Mutex<String>,
) -> anyhow::Result<Outcome> {
    let now = |what: String| *doing.lock().unwrap_or_else(PoisonError::into_inner) = what;
    for _ in 0..ROUNDS_MAX {
        now("looking at what is there".into());
        let have = controller.observe(want).await?;
        let steps = controller.plan(want, &have);
        if steps.is_empty() {
            return Ok(controller.outcome(want, &have));
        }
        for step in steps {
            tracing::debug!("{}: {step:?}", C::NAME);
            now(format!("carrying out {step:?}"));
            controller.apply(want, step).await?;
        }
    }
    anyhow::bail!("still not as wished after {ROUNDS_MAX} rounds")
}

fn publish<C: Controller>(state: &State, want: &Want, outcome: Outcome, failures: u32) {
    let deadline = |wait: Duration| SystemTime::now().checked_add(wait);
    let (condition, message, deadline) = match outcome {
        Outcome::Ok(message) => (ConditionState::Ok, message, None),
        Outcome::Waiting(message, wait) => {
            (ConditionState::Waiting, message, wait.and_then(deadline))
        }
        Outcome::Failed(message) => {
            if failures == 1 {
                tracing::warn!("{} failed, retrying: {message}", C::NAME);
            }
            (ConditionState::Failed, message, None)
        }
    };
    state.observed.report(C::NAME, condition, message, deadline, want.generation());
}

/// Pause after the n-th failure in a row, from 0.
fn backoff(failures: u32) -> Duration {
    BACKOFF_MIN.saturating_mul(1 << failures.min(10)).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let pauses: Vec<u64> = (0..9).map(|failures| backoff(failures).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(backoff(u32::MAX), BACKOFF_MAX);
    }
}
