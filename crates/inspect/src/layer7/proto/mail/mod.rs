//! Mail, files and terminals: protocols of lines.

mod ask;
mod email;
mod ftp;
mod imap;
mod irc;
mod nntp;
mod pop3;
mod remote;
mod smtp;
mod syslog;
mod telnet;
mod tftp;
mod xmpp;

use crate::layer7::protocol::Protocol;

/// The protocols of this folder.
pub(super) const ALL: &[&dyn Protocol] = &[
    &smtp::Smtp,
    &ftp::Ftp,
    &ftp::FtpData,
    &pop3::Pop3,
    &imap::Imap,
    &telnet::Telnet,
    &tftp::Tftp,
    &nntp::Nntp,
    &irc::Irc,
    &xmpp::Xmpp,
    &syslog::Syslog,
    &remote::RSH,
    &remote::REXEC,
    &remote::Rlogin,
    &ask::WHOIS,
    &ask::FINGER,
    &ask::GOPHER,
];
