"""What people write today when a model is to be served: FastAPI, uvicorn and onnxruntime."""
