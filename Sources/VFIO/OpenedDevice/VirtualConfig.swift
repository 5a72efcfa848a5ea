// SPDX-License-Identifier: Apache-2.0

// Configuration space as a client sees it (drivers/vfio/pci/vfio_pci_config.c). BARs, MSI and the
// capability list belong to the host, so the client does not access all of the function's
// registers. Each bit is either virtual or physical. A virtual bit is in the shadow, which starts
// as a copy of the function's bits. A physical bit is read from the function and written to the
// function. `ConfigLayout` has the kind of each bit.
//
// An access is 1, 2 or 4 bytes, aligned, and inside one capability (`accessWidth(at:of:)`). A write
// that affects more than registers returns its effects, because the effects need locks other than
// the one that guards this value (OpenedDevice.config).

internal import PCI

struct VirtualConfig: Sendable {
  private let function: Function
  private let layout: ConfigLayout
  /// The values of the virtual bits. Other bits have no meaning.
  private var shadow: [UInt8]
  /// Whether a BAR has been written since the shadow was last made to look like a BAR of hardware.
  private var barsChanged = true

  /// What the caller must do after a write.
  enum Effect: Equatable, Sendable {
    /// The client has written Interrupt Disable; the new value.
    case intxDisable(Bool)
    case powerState(Function.PowerState)
    case functionReset
  }

  /// - Parameter function: A function that has been enabled and reset.
  init(_ function: Function) {
    self.function = function
    layout = ConfigLayout(function)
    shadow = layout.initialShadow
  }

  /// Whether memory accesses reach the function (__vfio_pci_memory_enabled()).
  var isMemoryEnabled: Bool {
    shadow[Type0Header.command] & UInt8(CommandRegister.memorySpace.rawValue) != 0
      && function.powerState == .d0
  }

  /// The Interrupt Pin register.
  var interruptPin: UInt8 { shadow[Type0Header.interruptPin] }

  /// Returns the width of the longest access at `position` that the kernel makes of `count` bytes.
  /// The access ends at the end of the dword and at the end of the capability
  /// (vfio_pci_config_rw_single()).
  func accessWidth(at position: Int, of count: Int) -> Int {
    let owner = layout.owner
    let dwordEnd = position & ~3 + 4
    var end = position + 1
    while end < dwordEnd, owner[end] == owner[position] { end += 1 }
    let available = min(count, end - position)
    if available >= 4, position % 4 == 0 { return 4 }
    if available >= 2, position % 2 == 0 { return 2 }
    return 1
  }

  /// Returns whether a write at `position` is dropped before its bytes are loaded, because the
  /// kernel has no write function for the capability.
  func ignoresWrites(at position: Int) -> Bool {
    switch layout.owner[position] {
    case .header, .unassigned: false
    case .capability(let id, _):
      id != CapabilityID.powerManagement && id != CapabilityID.express && id != CapabilityID.msi
    case .extended: true
    }
  }

  /// Reads `count` bytes: 1, 2 or 4.
  mutating func read(at position: Int, count: Int) -> UInt32 {
    if layout.owner[position] == .header, Self.isBAR(position) { fixUpBARs() }
    return merged(at: position, count: count)
  }

  /// Writes `count` bytes: 1, 2 or 4.
  /// - Parameters:
  ///   - msiIsEnabled: Whether VFIO_DEVICE_SET_IRQS has enabled MSI.
  ///   - msiShift: log2 of the vectors that the client can enable.
  mutating func write(
    _ value: UInt32, at position: Int, count: Int, msiIsEnabled: Bool, msiShift: Int
  ) -> [Effect] {
    switch layout.owner[position] {
    case .header: return writeHeader(value, at: position, count: count)
    case .unassigned:
      function.writeConfig(value, at: position, count: count)
      return []
    case .capability(CapabilityID.powerManagement, let start):
      store(value, at: position, count: count)
      guard position == start + PowerManagement.control else { return [] }
      // The function has no D1 and no D2, so pci_set_power_state() refuses them.
      return Function.PowerState(
        rawValue: UInt16(truncatingIfNeeded: value) & PowerManagement.powerStateMask
      ).map { [.powerState($0)] } ?? []
    case .capability(CapabilityID.express, let start):
      store(value, at: position, count: count)
      return clearFunctionReset(express: start)
    case .capability(CapabilityID.msi, let start):
      store(value, at: position, count: count)
      if position <= start + MSI.control, position + count >= start + MSI.control {
        fixUpMSIControl(msi: start, isEnabled: msiIsEnabled, shift: msiShift)
      }
      return []
    case .capability, .extended: return []
    }
  }

  // MARK: Header

  private mutating func writeHeader(
    _ value: UInt32, at position: Int, count: Int
  ) -> [Effect] {
    store(value, at: position, count: count)
    if position == Type0Header.command {
      // The client's view of Memory Space Enable and I/O Space Enable. The function's bits can
      // change without the client, for example by a reset.
      let enables: CommandRegister = [.memorySpace, .ioSpace]
      let mask = UInt8(enables.rawValue & 0xff)
      shadow[Type0Header.command] &= ~mask
      shadow[Type0Header.command] |= UInt8(truncatingIfNeeded: value) & mask
    }
    if Self.isBAR(position) { barsChanged = true }
    guard position == Type0Header.command || position == Type0Header.command + 1 else { return [] }
    let disable = UInt8(CommandRegister.interruptDisable.rawValue >> 8)
    return [.intxDisable(shadow[Type0Header.command + 1] & disable != 0)]
  }

  /// Returns whether `position` is in a BAR or in the expansion ROM base address register.
  private static func isBAR(_ position: Int) -> Bool {
    (Type0Header.bar0..<Type0Header.bar0 + 24).contains(position)
      || (Type0Header.expansionROM..<Type0Header.expansionROM + 4).contains(position)
  }

  /// Clears the bits of the client's BARs that hardware would not keep, so that a client that
  /// writes ones reads the size (vfio_bar_fixup()).
  private mutating func fixUpBARs() {
    guard barsChanged else { return }
    barsChanged = false
    var index = 0
    while index < 6 {
      let register = Type0Header.bar0 + index * 4
      guard let bar = function.description.bar(index) else {
        shadow.storeLittleEndian(0, at: register)
        index += 1
        continue
      }
      let mask = ~(bar.size - 1)
      let low = shadow.loadLittleEndian(at: register, count: 4)
      shadow.storeLittleEndian(
        low & UInt32(truncatingIfNeeded: mask) | bar.typeBits, at: register)
      if bar.is64Bit {
        let high = shadow.loadLittleEndian(at: register + 4, count: 4)
        shadow.storeLittleEndian(high & UInt32(truncatingIfNeeded: mask >> 32), at: register + 4)
      }
      index += bar.is64Bit ? 2 : 1
    }
    shadow.storeLittleEndian(0, at: Type0Header.expansionROM)
  }

  // MARK: Capabilities

  /// Clears Initiate Function Level Reset, which is virtual and always reads 0
  /// (vfio_exp_config_write()). Max_Read_Request_Size is virtual too. The kernel passes its value
  /// on to the function, which has no effect here.
  private mutating func clearFunctionReset(express start: Int) -> [Effect] {
    let high = start + Express.deviceControl + 1
    let bit = UInt8(Express.initiateFunctionLevelReset >> 8)
    guard shadow[high] & bit != 0 else { return [] }
    shadow[high] &= ~bit
    return function.description.hasFunctionLevelReset ? [.functionReset] : []
  }

  /// Limits Message Control to what VFIO_DEVICE_SET_IRQS has enabled: the client can disable and
  /// enable MSI only while VFIO has enabled it, and with no more vectors (vfio_msi_config_write()).
  private mutating func fixUpMSIControl(msi start: Int, isEnabled: Bool, shift: Int) {
    let position = start + MSI.control
    var control = UInt16(shadow[position]) | UInt16(shadow[position + 1]) << 8
    if !isEnabled { control &= ~MSI.enable }
    if Int((control & MSI.multipleEnableMask) >> 4) > shift {
      control = control & ~MSI.multipleEnableMask | UInt16(shift) << 4
    }
    shadow[position] = UInt8(control & 0xff)
    shadow[position + 1] = UInt8(control >> 8)
    function.writeConfig(position, control)
  }

  // MARK: Bits

  private func merged(at position: Int, count: Int) -> UInt32 {
    let virtualBits = layout.virtual.loadLittleEndian(at: position, count: count)
    let shadowBits = shadow.loadLittleEndian(at: position, count: count) & virtualBits
    guard virtualBits != Self.ones(count) else { return shadowBits }
    return function.readConfig(at: position, count: count) & ~virtualBits | shadowBits
  }

  /// vfio_default_config_write(). Physical bits are read, changed and written back. So a bit that a
  /// write of 1 clears (RW1C) is cleared although the bit is not writable.
  private mutating func store(_ value: UInt32, at position: Int, count: Int) {
    let writableBits = layout.writable.loadLittleEndian(at: position, count: count)
    let virtualBits = layout.virtual.loadLittleEndian(at: position, count: count)
    let toShadow = writableBits & virtualBits
    for index in 0..<count {
      let mask = UInt8(truncatingIfNeeded: toShadow >> (index * 8))
      let byte = UInt8(truncatingIfNeeded: value >> (index * 8))
      shadow[position + index] = shadow[position + index] & ~mask | byte & mask
    }
    let toFunction = writableBits & ~virtualBits
    guard toFunction != 0 else { return }
    let current = function.readConfig(at: position, count: count)
    function.writeConfig(
      current & ~toFunction | value & toFunction, at: position, count: count)
  }

  private static func ones(_ count: Int) -> UInt32 { .max >> (32 - UInt32(count) * 8) }
}
