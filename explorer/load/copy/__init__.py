"""The COPY path of sources with `load: copy`: rows stream into their table while the extract goes on. It knows nothing of dlt."""
