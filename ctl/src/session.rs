//! What every command needs: the chosen context, the endpoint, the deadline and the output.

use crate::cli::Globals;
use crate::client::{Credentials, Endpoint, Node, Target};
use crate::contexts::{Context, Contexts};
use crate::failure::Failure;
use crate::output::Output;
use std::time::Duration;

pub(crate) struct Session<'a> {
    pub(crate) globals: &'a Globals,
    pub(crate) output: Output,
}

impl<'a> Session<'a> {
    pub(crate) fn new(globals: &'a Globals) -> Self {
        Self { globals, output: Output::new(globals.output) }
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.globals.timeout
    }

    /// The context named on the command line, or the current one.
    pub(crate) fn context(&self) -> Result<(String, Context), Failure> {
        let contexts = Contexts::read(&self.globals.config_path()?)?;
        contexts.choose(self.globals.context.as_deref())
    }

    /// The endpoint named on the command line, or the context's.
    pub(crate) fn endpoint(&self) -> Result<Endpoint, Failure> {
        if let Some(endpoint) = &self.globals.endpoint {
            return Ok(endpoint.clone());
        }
        let (name, context) = self.context()?;
        context.endpoint.as_deref().map(str::parse).transpose()?.ok_or_else(|| {
            Failure::usage(format!("context \"{name}\" has no endpoint"))
                .hint(format!("give --endpoint, or set one: ingotctl config endpoint {name} HOST"))
        })
    }

    pub(crate) fn target(&self) -> Result<Target, Failure> {
        let (name, context) = self.context()?;
        let credentials: Credentials = context.credentials(&name)?;
        Ok(Target { endpoint: self.endpoint()?, credentials, timeout: self.timeout() })
    }

    pub(crate) async fn connect(&self) -> Result<Node, Failure> {
        Ok(Node::connect(&self.target()?).await?)
    }
}
