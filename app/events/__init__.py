"""What an event is: its model, limits, validation, ids, and the record that carries it on Kafka."""
