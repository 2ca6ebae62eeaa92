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
