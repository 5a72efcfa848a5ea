// NVIDIA Tegra241's CMDQ-Virtualization, an extension of its SMMUv3: command queues beside the unit's own,
// which belong to *virtual interfaces*, and an interface can be given to a guest. NVIDIA has published no
// specification. What is here is what Linux's driver (tegra241-cmdqv.c) and QEMU's model of the guest's
// side (hw/arm/tegra241-cmdqv.h) tell of the hardware.

package struct VirtualQueueCapabilities: Hashable, Sendable {
  package var isPresent = false
  /// PARAM.CMDQV_NUM_VINTF_LOG2: of the interfaces. The first is the host's own.
  package var interfaceBits = 6
  /// PARAM.CMDQV_NUM_VCMDQ_LOG2: of all queues. They are shared out evenly.
  package var queueBits = 7
  /// PARAM.CMDQV_NUM_SID_PER_VM_LOG2: of the streams that one interface has names for.
  package var streamBits = 4
  /// PARAM.CMDQV_VER
  package var version: UInt8 = 1

  package init() {}

  /// log2 of the queues of one interface.
  package var queueBitsPerInterface: Int { queueBits - interfaceBits }
}

extension SMMUv3Unit.Configuration {
  /// As in a Tegra241: virtual queues, and devices that translate for themselves.
  package static var tegra241: Self {
    var configuration = Self()
    configuration.virtualQueues.isPresent = true
    configuration.capabilities.ats = true
    return configuration
  }
}
