"""From an HTTP request to an acknowledged Kafka record: content types, admission, publishing, answers."""
