"""The contract that the center, the edge and the operator's command stand on; no I/O but `link`."""
