//! Commands that go on until they are told to end.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

/// A runtime for a command that waits most of the time.
pub(super) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Is ready when the process is told to end by SIGTERM or SIGINT, which do nothing else from now on. The first process
/// of a container would else not hear of them at all. It has to be called inside of a runtime.
pub(super) fn stopped() -> io::Result<impl Future<Output = ()> + Send> {
    let told = told()?;
    Ok(async move {
        told.await;
    })
}

fn told() -> io::Result<impl Future<Output = Told> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => Told::Terminate,
            _ = interrupt.recv() => Told::Interrupt,
        }
    })
}

/// The signal that ends a command before it has done its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Told {
    /// As a container runtime does.
    #[error("told to end by SIGTERM")]
    Terminate,
    /// As a terminal does.
    #[error("told to end by SIGINT")]
    Interrupt,
}

impl Told {
    /// What shells say of a program that the signal ends. The first process of a container can not end that way.
    pub(super) fn exit_code(self) -> u8 {
        match self {
            Self::Terminate => 128 + 15,
            Self::Interrupt => 128 + 2,
        }
    }
}

/// The waits of a command that ends by itself: a signal ends them, and nothing else, so no work is left half done.
pub(super) struct Waits {
    runtime: Runtime,
    told: Pin<Box<dyn Future<Output = Told>>>,
}

impl Waits {
    /// From now on signals are kept for the waits.
    pub(super) fn new() -> io::Result<Self> {
        let runtime = runtime()?;
        let told = {
            let _entered = runtime.enter();
            told()?
        };
        Ok(Self {
            runtime,
            told: Box::pin(told),
        })
    }

    /// # Errors
    /// The process was told to end, maybe before this wait. Nothing is to be waited for any more.
    pub(super) fn sleep(&mut self, time: Duration) -> Result<(), Told> {
        let Self { runtime, told } = self;
        runtime.block_on(async {
            tokio::select! {
                told = told => Err(told),
                () = tokio::time::sleep(time) => Ok(()),
            }
        })
    }
}
