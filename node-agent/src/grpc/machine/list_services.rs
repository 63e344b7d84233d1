//! `ListServices`: what PID 1 keeps running.

use crate::grpc::status::{failed, with_hint};
use crate::grpc::{Api, convert};
use ingot_api::machine::v1 as pb;
use ingot_init_api::{Service, ServiceState};
use std::time::Duration;
use tonic::{Code, Status};

pub(super) async fn call(
    api: &Api,
    _: pb::ListServicesRequest,
) -> Result<pb::ListServicesResponse, Status> {
    let pid1 = api.pods.pid1().map_err(|error| {
        with_hint(Code::Unavailable, error.to_string(), "try again in a second")
    })?;
    let services = pid1.services().await.map_err(|error| failed(&error, ""))?;
    Ok(pb::ListServicesResponse { services: services.iter().map(service).collect() })
}

fn service(service: &Service) -> pb::Service {
    let state = match service.state {
        ServiceState::Running => "running",
        ServiceState::Backoff => "backoff",
        ServiceState::Stopping => "stopping",
        ServiceState::Stopped => "stopped",
    };
    let running_for = (service.state == ServiceState::Running).then(|| {
        let since = Duration::from_nanos(service.since_ns);
        convert::duration(ingot_linux::clock::since_boot().saturating_sub(since))
    });
    pb::Service {
        name: service.name.as_str().to_owned(),
        state: state.to_owned(),
        pid: service.pid,
        restarts: service.restarts,
        running_for,
        last_exit: service.last_wait_status.map(exit_words).unwrap_or_default(),
    }
}

/// A raw wait status in words.
fn exit_words(status: i32) -> String {
    let signal = status & 0x7f;
    if signal == 0 {
        format!("exit code {}", status >> 8 & 0xff)
    } else {
        format!("signal {signal}")
    }
}

#[cfg(test)]
mod tests {
    use super::exit_words;

    #[test]
    fn a_wait_status_reads_as_words() {
        assert_eq!(exit_words(0x0300), "exit code 3");
        assert_eq!(exit_words(9), "signal 9");
        assert_eq!(exit_words(0x8b), "signal 11");
    }
}
