"""Other tools: what a run sends to TensorBoard, W&B, MLflow and whoever scrapes metrics."""
