//! Names that users write for the ends of a connection: `NS/POD`, `NS/WORKLOAD`, a service, an address.
