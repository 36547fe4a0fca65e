//! Association files.

use pod_identity_runtime::association_file::AssociationFile;

/// The input is an association file. Parsing its JSON and its YAML returns the same file, and the table finds every
/// association.
pub fn associations(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(file) = AssociationFile::parse(text) else { return };
    let json = serde_json::to_string(&file).expect("a file serializes to JSON");
    assert_eq!(AssociationFile::parse(&json).expect("the JSON parses"), file, "{json}");
    let yaml = serde_saphyr::to_string(&file).expect("a file serializes to YAML");
    assert_eq!(AssociationFile::parse(&yaml).expect("the YAML parses"), file, "{yaml}");

    let Ok(table) = file.table() else { return };
    let mut count = 0;
    for (cluster, association) in table.iter() {
        count += 1;
        association.check(cluster).expect("an association of a table is valid");
        let found = table.lookup(&cluster.name, &association.namespace, &association.service_account);
        let (_, found) = found.expect("an association of a table is found");
        assert_eq!(found.id, association.id);
        assert_eq!(found.role, association.role);
    }
    assert_eq!(count, file.associations.len());
    assert_eq!(table.clusters().count(), file.clusters.len());
}
