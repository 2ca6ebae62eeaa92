//! `sealwire tls init`: a small authority and a certificate for each role, for trying out.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use sealwire_engine::wire::Role;
use zeroize::Zeroizing;

use super::print;
use crate::cli::Tls;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long the authority is good.
const AUTHORITY_DAYS: u32 = 3653;

/// A clock that is a little behind takes a certificate all the same.
const BEFORE: Duration = Duration::from_secs(3600);

pub(super) fn run(command: &Tls) -> Result<()> {
    let Tls::Init { dir, days, gateway_name } = command;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| dir.display().to_string())?;
    let authority = authority(dir)?;
    for role in Role::ALL {
        certify(dir, role.name(), (&[role.dns_name().to_owned()], *days), &authority)?;
    }
    if !gateway_name.is_empty() {
        certify(dir, "gateway-clients", (gateway_name, *days), &authority)?;
    }
    print(&format!(
        "authority         {0}/authority.pem (its key, authority.key, belongs on no server)\n\
         for each part     {0}/engine.pem, gateway.pem, manager.pem and their .key files, good for {days} days\n\n\
         In the configuration of an engine, and in the same way of the others:\n\n  \
         [tls]\n  authority = '{0}/authority.pem'\n  certificate = '{0}/engine.pem'\n  key = '{0}/engine.key'\n",
        dir.display()
    ))
}

/// The authority of a folder: made, or, when it is there already, read.
fn authority(dir: &Path) -> Result<Issuer<'static, KeyPair>> {
    let (certificate, key) = (dir.join("authority.pem"), dir.join("authority.key"));
    if certificate.exists() {
        let pem =
            fs::read_to_string(&certificate).with_context(|| certificate.display().to_string())?;
        let read = fs::read_to_string(&key).map(Zeroizing::new);
        let key = KeyPair::from_pem(&read.with_context(|| key.display().to_string())?)?;
        return Ok(Issuer::from_ca_cert_pem(&pem, key)?);
    }
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Sealwire trial authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    good_for(&mut params, AUTHORITY_DAYS);
    let pair = KeyPair::generate()?;
    let signed = params.self_signed(&pair)?;
    write(&key, pair.serialize_pem().as_bytes(), 0o600)?;
    write(&certificate, signed.pem().as_bytes(), 0o644)?;
    Ok(Issuer::new(params, pair))
}

fn certify(
    dir: &Path,
    file: &str,
    (names, days): (&[String], u32),
    authority: &Issuer<'_, KeyPair>,
) -> Result<()> {
    let mut params = CertificateParams::new(names)
        .with_context(|| format!("the names {names:?} are no DNS names or addresses"))?;
    ensure!(!names.is_empty(), "a certificate needs a name");
    params.distinguished_name.push(DnType::CommonName, format!("Sealwire {file}"));
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    good_for(&mut params, days);
    let pair = KeyPair::generate()?;
    let signed = params.signed_by(&pair, authority)?;
    // The key first, so that who reads in between finds a pair that does not fit, and keeps the old one.
    write(&dir.join(format!("{file}.key")), pair.serialize_pem().as_bytes(), 0o600)?;
    write(&dir.join(format!("{file}.pem")), signed.pem().as_bytes(), 0o644)
}

fn good_for(params: &mut CertificateParams, days: u32) {
    let now = SystemTime::now();
    params.not_before = (now - BEFORE).into();
    params.not_after = (now + DAY * days).into();
}

/// Writes a file beside, and moves it into its place.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let beside = path.with_extension("new");
    let written = || -> std::io::Result<()> {
        let _ = fs::remove_file(&beside);
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        // Whatever the process's umask takes away: the parts run as other users.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    written().with_context(|| path.display().to_string())
}
