//! The programs that settings configure: servers, by the services that they run, and commands
//! that prepare a server.

/// A command that reads settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Server(Role),
    CreateTopics,
    CloseTopic,
    CreateBucket,
    RecoverAccess,
}

impl Program {
    pub(crate) const ALL: [Self; 9] = [
        Self::Server(Role::Up),
        Self::Server(Role::Frontier),
        Self::Server(Role::Backend),
        Self::Server(Role::IngestWorker),
        Self::Server(Role::ControlWorker),
        Self::CreateTopics,
        Self::CloseTopic,
        Self::CreateBucket,
        Self::RecoverAccess,
    ];

    /// The words after `matyan` that start it.
    pub(crate) fn command(self) -> &'static [&'static str] {
        match self {
            Self::Server(Role::Up) => &["up"],
            Self::Server(Role::Frontier) => &["frontier"],
            Self::Server(Role::Backend) => &["backend"],
            Self::Server(Role::IngestWorker) => &["ingest-worker"],
            Self::Server(Role::ControlWorker) => &["control-worker"],
            Self::CreateTopics => &["topics", "create"],
            Self::CloseTopic => &["topics", "close"],
            Self::CreateBucket => &["bucket", "create"],
            Self::RecoverAccess => &["access", "recover"],
        }
    }

    /// The program whose defaults this program has. `access recover` opens the store that `up` would open.
    pub(super) fn of_defaults(self) -> Self {
        match self {
            Self::RecoverAccess => Self::Server(Role::Up),
            program => program,
        }
    }
}

/// The role of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// All other roles in one process.
    Up,
    Frontier,
    Backend,
    IngestWorker,
    ControlWorker,
}

impl Role {
    pub(crate) fn has_frontier(self) -> bool {
        matches!(self, Self::Up | Self::Frontier)
    }

    pub(crate) fn has_backend(self) -> bool {
        matches!(self, Self::Up | Self::Backend)
    }

    pub(crate) fn has_ingest_worker(self) -> bool {
        matches!(self, Self::Up | Self::IngestWorker)
    }

    pub(crate) fn has_control_worker(self) -> bool {
        matches!(self, Self::Up | Self::ControlWorker)
    }

    pub(super) fn service_name(self) -> &'static str {
        match self {
            Self::Up => "matyan",
            Self::Frontier => "matyan-frontier",
            Self::Backend => "matyan-backend",
            Self::IngestWorker => "matyan-ingest-worker",
            Self::ControlWorker => "matyan-control-worker",
        }
    }

    /// True if its only port serves health checks and metrics.
    pub(crate) fn is_worker(self) -> bool {
        matches!(self, Self::IngestWorker | Self::ControlWorker)
    }

    /// True if it accesses state. The frontier never does.
    pub(crate) fn has_store(self) -> bool {
        self != Self::Frontier
    }
}
