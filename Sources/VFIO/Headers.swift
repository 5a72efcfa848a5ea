// The fixed part of structs that end in an array, which Swift cannot copy as the C types they are.
// Members and their order are those of uapi/linux/vfio.h.

/// struct vfio_irq_set
struct IRQSetHeader: BitwiseCopyable {
  var argsz: UInt32 = 0
  var flags: UInt32 = 0
  var index: UInt32 = 0
  var start: UInt32 = 0
  var count: UInt32 = 0
}

/// struct vfio_pci_hot_reset_info, struct vfio_pci_hot_reset
struct HotResetHeader: BitwiseCopyable {
  var argsz: UInt32 = 0
  var flags: UInt32 = 0
  var count: UInt32 = 0
}

/// struct vfio_pci_dependent_device
struct DependentDevice: BitwiseCopyable {
  var id: UInt32
  var segment: UInt16
  var bus: UInt8
  var deviceAndFunction: UInt8
}

/// struct vfio_device_feature
struct FeatureHeader: BitwiseCopyable {
  var argsz: UInt32 = 0
  var flags: UInt32 = 0
}
