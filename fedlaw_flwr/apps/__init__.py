"""The ClientApps and the ServerApp: what runs in a silo and beside the SuperLink."""
