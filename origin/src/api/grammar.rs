//! What texts in requests look like, for the API's description: as strict as what reads them, or a little stricter.

use schemars::{Schema, SchemaGenerator, json_schema};

macro_rules! project {
    () => {
        r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
    };
}

/// The name of a project.
pub(super) const PROJECT: &str = concat!("^", project!(), "$");
/// The name of a user.
pub(super) const USER: &str = r"^[a-z0-9]([a-z0-9._@-]{0,62}[a-z0-9])?$";
/// The name of a robot.
pub(super) const ROBOT: &str = concat!("^", project!(), r"\+[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$");
/// The name of a user or a robot.
pub(super) const ACCOUNT: &str = r"^[a-z0-9][a-z0-9._@+-]{0,190}$";
/// Without control characters.
pub(super) const PRINTABLE: &str = r"^[^\x00-\x1f\x7f-\x9f]*$";
/// A duration in one unit; others add up.
pub(super) const DURATION: &str = r"^[1-9][0-9]{0,3}[smhd]$";
/// A duration that a rotation may take.
pub(super) const OVERLAP: &str = r"^[0-9]{1,2}[smh]$";

/// IPv4, and IPv6 in full; the shorter forms are read as well.
const NETWORK: &str = r"^((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3}/(3[0-2]|[12]?[0-9])|([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))$";

pub(super) fn project_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": PROJECT, "maxLength": 128, "not": {"const": "system"}})
}

pub(super) fn user_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": USER})
}

pub(super) fn robot_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": ROBOT, "maxLength": 128})
}

pub(super) fn account_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": ACCOUNT})
}

pub(super) fn password(_: &mut SchemaGenerator) -> Schema {
    // How long it may be is counted in bytes, which a description cannot say.
    json_schema!({"type": "string", "pattern": PRINTABLE, "minLength": 1})
}

pub(super) fn password_or_none(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [password(generator), {"type": "null"}]})
}

pub(super) fn email_or_none(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [
        {"type": "string", "pattern": r"^[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,189}$"},
        {"type": "null"},
    ]})
}

pub(super) fn networks(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": {"type": "string", "pattern": NETWORK}, "maxItems": 100})
}

pub(super) fn networks_or_none(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [networks(generator), {"type": "null"}]})
}

pub(super) fn when_or_none(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [{"type": "string", "pattern": DURATION}, {"type": "null"}]})
}

pub(super) fn overlap_or_none(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [{"type": "string", "pattern": OVERLAP}, {"type": "null"}]})
}
