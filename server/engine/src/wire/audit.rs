//! The bodies of the words about the audit.

use sealwire_protocol::{BodyError, Reader};

use super::message::{push_long, read_long};
use crate::audit::{AuditProof, MAX_AUDIT_BATCH, MAX_AUDIT_RECORD, MAX_AUDIT_TEXT};

/// Audit records, each with its length: at most [`MAX_AUDIT_BATCH`].
pub(crate) fn push_records(out: &mut Vec<u8>, bodies: &[Vec<u8>]) {
    out.push(u8::try_from(bodies.len()).expect("batches are short"));
    for body in bodies {
        push_long(out, body);
    }
}

pub(crate) fn read_records(body: &[u8]) -> Result<Vec<&[u8]>, BodyError> {
    let mut reader = Reader::new(body);
    let mut bodies = Vec::new();
    for _ in 0..read_count(&mut reader)? {
        bodies.push(read_long(&mut reader, MAX_AUDIT_RECORD, "record")?);
    }
    reader.finish()?;
    Ok(bodies)
}

fn read_count(reader: &mut Reader<'_>) -> Result<usize, BodyError> {
    let count = usize::from(reader.u8("count")?);
    if count > MAX_AUDIT_BATCH { Err(BodyError::Value("count")) } else { Ok(count) }
}

/// Audit records and heads, each behind its MAC.
pub(crate) fn push_proofs(out: &mut Vec<u8>, proofs: &[AuditProof<'_>]) {
    out.push(u8::try_from(proofs.len()).expect("batches are short"));
    for proof in proofs {
        out.push(u8::from(proof.is_head));
        out.extend_from_slice(&proof.mac);
        push_long(out, proof.body);
    }
}

pub(crate) fn read_proofs(body: &[u8]) -> Result<Vec<AuditProof<'_>>, BodyError> {
    let mut reader = Reader::new(body);
    let mut proofs = Vec::new();
    for _ in 0..read_count(&mut reader)? {
        let is_head = match reader.u8("kind")? {
            0 => false,
            1 => true,
            _ => return Err(BodyError::Value("kind")),
        };
        let mac = reader.array("MAC")?;
        let body = read_long(&mut reader, MAX_AUDIT_RECORD, "record")?;
        proofs.push(AuditProof { is_head, body, mac });
    }
    reader.finish()?;
    Ok(proofs)
}

/// What a manager has taken of an engine's journal: nothing, or up to which number of which engine.
pub(crate) fn push_taken(out: &mut Vec<u8>, taken: Option<(&str, u64)>) {
    if let Some((engine, number)) = taken {
        push_long(out, engine.as_bytes());
        out.extend_from_slice(&number.to_be_bytes());
    }
}

pub(crate) fn read_taken(body: &[u8]) -> Result<Option<(&str, u64)>, BodyError> {
    if body.is_empty() {
        return Ok(None);
    }
    let mut reader = Reader::new(body);
    let engine = read_long(&mut reader, MAX_AUDIT_TEXT, "engine")?;
    let engine = std::str::from_utf8(engine).map_err(|_| BodyError::Value("engine"))?;
    let number = u64::from_be_bytes(reader.array("number")?);
    reader.finish()?;
    Ok(Some((engine, number)))
}
