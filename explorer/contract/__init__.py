"""What runs write and others read: tags, metadata, names, schemas and headers, as typed records that know no Dagster."""
