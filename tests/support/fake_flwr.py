"""A stand-in for the flwr command, for the tests of what the operators' commands make of its answers."""

FLWR = """
import json, pathlib, sys
store = pathlib.Path(sys.argv[1])
nodes = json.loads(store.read_text()) if store.exists() else {}
what = sys.argv[2:4]
print("a line of Flower's log")
if what[0] == "supernode" and what[1] == "list":
    listed = [{"node-id": i, "status": s} for i, s in nodes.items()]
    print(json.dumps({"success": True, "nodes": listed}))
elif what[1] == "register":
    nodes[str(100 + len(nodes))] = "registered"
    print(json.dumps({"success": True, "node-id": 100 + len(nodes) - 1}))
elif what[1] == "unregister":
    nodes[sys.argv[4]] = "unregistered"
    print(json.dumps({"success": True, "node-id": sys.argv[4]}))
elif what[0] == "run":
    print(json.dumps({"success": True, "run-id": "77", "asked": sys.argv[4:]}))
    store.with_name("asked").write_text(json.dumps(sys.argv[2:]))
elif what[0] == "list":
    print(json.dumps({"success": True, "runs": [{"status": "finished:completed"}]}))
elif what[0] == "stop":
    print(json.dumps({"success": False, "error-message": "Run 77 is over"}))
    sys.exit(1)
store.write_text(json.dumps(nodes))
"""
