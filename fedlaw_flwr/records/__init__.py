"""An institution's own data: tables, queries and folders of images, and the schema silos agree on."""
