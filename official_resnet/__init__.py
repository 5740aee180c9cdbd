"""The official TensorFlow ResNet in Keras 3: networks, recipes, programs."""
