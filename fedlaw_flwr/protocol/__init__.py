"""How the server talks to silos over a Flower Grid: exchanges, the gate, the roster, the layout of a model."""
