//! The commands of operators: signing in, and managing others.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use sealwire_engine::document::OperatorRole;

use super::ManagerSocket;

#[derive(Args)]
pub(crate) struct SignIn {
    /// The operator's name.
    pub(crate) name: String,
    /// A file with the password; asked for unless given.
    #[arg(long)]
    pub(crate) password_file: Option<PathBuf>,
    /// Print the session's token instead of keeping it for the commands that follow.
    #[arg(long)]
    pub(crate) print: bool,
    #[command(flatten)]
    pub(crate) socket: ManagerSocket,
}

#[derive(Subcommand)]
pub(crate) enum Operator {
    /// Make an operator. From the first one on, the manager's socket asks who calls.
    #[command(
        after_help = "Roles: key-admin (keys), app-admin (apps), auditor (sees everything, changes nothing),\n\
                      root-officer (root rotations, operators). The first operator must be a root-officer.\n\n\
                      Examples:\n  sealwire operator create alice --role root-officer --role auditor\n  \
                      sealwire operator create bob --role key-admin --role app-admin"
    )]
    Create {
        /// The name to sign in with, in any language.
        name: String,
        /// What they may do.
        #[arg(long = "role", required = true)]
        roles: Vec<OperatorRole>,
        /// A file with the password, 12 characters at least; asked for unless given.
        #[arg(long)]
        password_file: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        socket: ManagerSocket,
    },
    /// List operators.
    #[command(after_help = "Example:\n  sealwire operator list --json")]
    List {
        /// Print JSON: an array of objects.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        socket: ManagerSocket,
    },
    /// Show an operator with their tokens.
    #[command(after_help = "Example:\n  sealwire operator show alice")]
    Show(OneOperator),
    /// Keep an operator from signing in, and end their sessions; their tokens are good for nothing then.
    #[command(after_help = "Example:\n  sealwire operator disable bob")]
    Disable(OneOperator),
    /// Let them sign in again.
    #[command(after_help = "Example:\n  sealwire operator enable bob")]
    Enable(OneOperator),
    /// Give an operator other roles, in place of those they have.
    #[command(after_help = "Example:\n  sealwire operator set-roles bob --role key-admin")]
    SetRoles {
        #[command(flatten)]
        operator: OneOperator,
        /// What they may do from now on.
        #[arg(long = "role", required = true)]
        roles: Vec<OperatorRole>,
    },
    /// Give an operator another password, because they have forgotten theirs. Their sessions end.
    #[command(after_help = "Example:\n  sealwire operator reset-password bob")]
    ResetPassword {
        #[command(flatten)]
        operator: OneOperator,
        /// A file with the password; asked for unless given.
        #[arg(long)]
        password_file: Option<PathBuf>,
    },
    /// Change your own password. Your other sessions end.
    #[command(after_help = "Example:\n  sealwire operator change-password")]
    ChangePassword {
        /// A file with the current password; asked for unless given.
        #[arg(long)]
        current_password_file: Option<PathBuf>,
        /// A file with the new password; asked for unless given.
        #[arg(long)]
        password_file: Option<PathBuf>,
        #[command(flatten)]
        socket: ManagerSocket,
    },
    /// Make a token for a program of yours, shown this once: SEALWIRE_TOKEN takes it.
    #[command(
        after_help = "A token does no more than you may, and nothing that a person must do.\n\n\
                      Example:\n  sealwire operator create-token nightly --role key-admin --lifetime 90d"
    )]
    CreateToken {
        /// What it is for.
        name: String,
        /// What it may do.
        #[arg(long = "role", required = true)]
        roles: Vec<OperatorRole>,
        /// How long it is taken, up to a year.
        #[arg(long, default_value = "30d", value_parser = humantime::parse_duration)]
        lifetime: Duration,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        socket: ManagerSocket,
    },
    /// Revoke a token of yours, or of another operator.
    #[command(
        after_help = "Examples:\n  sealwire operator revoke-token tk_0123456789abcdef01234567\n  \
                            sealwire operator revoke-token tk_0123456789abcdef01234567 --of bob"
    )]
    RevokeToken {
        /// The token's id.
        token: String,
        /// Whose it is, unless it is yours.
        #[arg(long = "of")]
        operator: Option<String>,
        #[command(flatten)]
        socket: ManagerSocket,
    },
}

#[derive(Args)]
pub(crate) struct OneOperator {
    /// A name or an id.
    pub(crate) operator: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) socket: ManagerSocket,
}

#[derive(Subcommand)]
pub(crate) enum Request {
    /// List what waits for a second person.
    #[command(
        after_help = "Examples:\n  sealwire request list\n  sealwire request list --all --json"
    )]
    List {
        /// What was decided, too, and what nobody has decided in time.
        #[arg(long)]
        all: bool,
        /// Print JSON: an array of objects.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        socket: ManagerSocket,
    },
    /// Show a request.
    #[command(after_help = "Example:\n  sealwire request show rq_0123456789abcdef01234567")]
    Show(OneRequest),
    /// Approve what somebody else has asked for: it is done at once.
    #[command(after_help = "Example:\n  sealwire request approve rq_0123456789abcdef01234567")]
    Approve(OneRequest),
    /// Refuse what somebody else has asked for, or take back what you have.
    #[command(after_help = "Example:\n  sealwire request refuse rq_0123456789abcdef01234567")]
    Refuse(OneRequest),
}

#[derive(Args)]
pub(crate) struct OneRequest {
    /// The id.
    pub(crate) request: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) socket: ManagerSocket,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

impl Switch {
    pub(crate) fn is_on(self) -> bool {
        self == Self::On
    }
}

#[derive(Subcommand)]
pub(crate) enum Policy {
    /// Show whether two persons are needed, and how long a destruction waits.
    #[command(after_help = "Example:\n  sealwire policy show")]
    Show {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        socket: ManagerSocket,
    },
    /// Set it. To ask for less care takes two persons itself.
    #[command(after_help = "Examples:\n  sealwire policy set --destroy-wait 30d\n  \
                            sealwire policy set --two-persons off")]
    Set {
        /// Whether what cannot be undone, or opens doors, takes two persons.
        #[arg(long)]
        two_persons: Option<Switch>,
        /// The least time between the word that a version is to be destroyed, and its destruction.
        #[arg(long, value_parser = humantime::parse_duration)]
        destroy_wait: Option<Duration>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        socket: ManagerSocket,
    },
}
