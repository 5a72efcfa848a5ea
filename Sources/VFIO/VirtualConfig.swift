// Configuration space as a client sees it (drivers/vfio/pci/vfio_pci_config.c). The client must not
// own all of it: base addresses, message interrupts and the capability list are the host's. So every
// bit is either *virtual*, kept in a shadow that starts as a copy, or *physical*, read from and
// written to the function; and it is writable or not.
//
//   owner      what stands at a byte: the header, a capability, or nothing (physical, read-write)
//   shadow     the virtual bits; other bits of it mean nothing
//   virtual    bit set: the shadow counts
//   writable   bit set: a write changes it, in the shadow or the function
//
// Accesses arrive chopped: 1, 2 or 4 bytes, aligned, inside one capability (`chunk(at:of:)`). What a
// write causes beyond the registers is returned, because it needs other locks.

internal import PCI

struct VirtualConfig: Sendable {
  let function: Function
  var owner: [Owner]
  var shadow: [UInt8]
  var virtual: [UInt8]
  var writable: [UInt8]
  /// Base addresses have been written since the shadow was last made to look like hardware.
  private var baseAddressesChanged = true

  enum Owner: Hashable, Sendable {
    case header
    case capability(UInt8, start: Int)
    case extended(UInt16, start: Int)
    case unassigned
  }

  /// What the caller has to do after a write.
  enum Effect: Equatable, Sendable {
    /// Command.InterruptDisable was written; the new value.
    case pinDisable(Bool)
    case powerState(Function.PowerState)
    case functionReset
  }

  /// - Parameter function: enabled and reset.
  init(_ function: Function) {
    let size = function.configSize
    self.function = function
    owner = Array(repeating: .unassigned, count: size)
    shadow = Array(repeating: 0, count: size)
    virtual = shadow
    writable = shadow
    layOutHeader()
    layOutCapabilities()
    layOutExtendedCapabilities()
  }

  var size: Int { shadow.count }

  /// Memory accesses reach the function (__vfio_pci_memory_enabled()).
  var isMemoryEnabled: Bool {
    shadow[Header.command] & UInt8(Command.memorySpace.rawValue) != 0
      && function.powerState == .d0
  }

  var interruptPin: UInt8 { shadow[Header.interruptPin] }

  /// The longest access at `position` that the kernel makes of `count` bytes: it stops at the end of
  /// the dword and of the capability (vfio_pci_config_rw_single()).
  func chunk(at position: Int, of count: Int) -> Int {
    let dwordEnd = position & ~3 + 4
    var end = position + 1
    while end < dwordEnd, owner[end] == owner[position] { end += 1 }
    let available = min(count, end - position)
    if available >= 4, position % 4 == 0 { return 4 }
    if available >= 2, position % 2 == 0 { return 2 }
    return 1
  }

  /// Whether a write at `position` is dropped unseen: the capability has no write function.
  func ignoresWrites(at position: Int) -> Bool {
    switch owner[position] {
    case .header, .unassigned: false
    case .capability(let id, _):
      id != CapabilityID.powerManagement && id != CapabilityID.express && id != CapabilityID.msi
    case .extended: true
    }
  }

  mutating func read(at position: Int, count: Int) -> UInt32 {
    if owner[position] == .header, Self.isBaseAddress(position) { fixUpBaseAddresses() }
    return merged(at: position, count: count)
  }

  /// - Parameter messages: which kind of message interrupt is enabled, if any.
  mutating func write(
    _ value: UInt32, at position: Int, count: Int, msiIsEnabled: Bool, msiLimit: Int
  ) -> [Effect] {
    switch owner[position] {
    case .header: return writeHeader(value, at: position, count: count)
    case .unassigned:
      writePhysical(value, at: position, count: count)
      return []
    case .capability(CapabilityID.powerManagement, let start):
      store(value, at: position, count: count)
      guard position == start + PowerManagement.control else { return [] }
      // D1 and D2 are not there, so pci_set_power_state() refuses them.
      return Function.PowerState(
        rawValue: UInt16(truncatingIfNeeded: value) & PowerManagement.powerStateMask
      ).map { [.powerState($0)] } ?? []
    case .capability(CapabilityID.express, let start):
      store(value, at: position, count: count)
      return takeFunctionReset(express: start)
    case .capability(CapabilityID.msi, let start):
      store(value, at: position, count: count)
      if position <= start + MSI.control, position + count >= start + MSI.control {
        fixUpMSIControl(msi: start, isEnabled: msiIsEnabled, limit: msiLimit)
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
    if position == Header.command {
      // The client's own view of what it enabled; the function's may change behind its back.
      let mask = UInt8((Command.memorySpace.rawValue | Command.ioSpace.rawValue) & 0xff)
      shadow[Header.command] &= ~mask
      shadow[Header.command] |= UInt8(truncatingIfNeeded: value) & mask
    }
    if Self.isBaseAddress(position) { baseAddressesChanged = true }
    guard position == Header.command || position == Header.command + 1 else { return [] }
    let disable = UInt8(Command.interruptDisable.rawValue >> 8)
    return [.pinDisable(shadow[Header.command + 1] & disable != 0)]
  }

  private static func isBaseAddress(_ position: Int) -> Bool {
    (Header.baseAddress0..<Header.baseAddress0 + 24).contains(position)
      || (Header.expansionROM..<Header.expansionROM + 4).contains(position)
  }

  /// Makes what the client wrote look as if hardware had kept it, which is how it finds the sizes
  /// (vfio_bar_fixup()).
  private mutating func fixUpBaseAddresses() {
    guard baseAddressesChanged else { return }
    baseAddressesChanged = false
    var index = 0
    while index < 6 {
      let register = Header.baseAddress0 + index * 4
      guard let base = function.description.bar(index) else {
        setShadow(register, 0)
        index += 1
        continue
      }
      let mask = ~(base.size - 1)
      setShadow(
        register, shadowValue(register) & UInt32(truncatingIfNeeded: mask) | base.typeBits)
      if base.is64Bit {
        let high = register + 4
        setShadow(high, shadowValue(high) & UInt32(truncatingIfNeeded: mask >> 32))
      }
      index += base.is64Bit ? 2 : 1
    }
    setShadow(Header.expansionROM, 0)
  }

  // MARK: Capabilities

  /// The reset bit is virtual and always reads 0 (vfio_exp_config_write()). The read request size is
  /// virtual too; nothing here depends on what the function would make of it.
  private mutating func takeFunctionReset(express start: Int) -> [Effect] {
    let high = start + Express.deviceControl + 1
    let bit = UInt8(Express.initiateFunctionLevelReset >> 8)
    guard shadow[high] & bit != 0 else { return [] }
    shadow[high] &= ~bit
    return function.description.hasFunctionLevelReset ? [.functionReset] : []
  }

  /// Messages are enabled by VFIO_DEVICE_SET_IRQS, not here: the client can only switch off and on
  /// what it has been given (vfio_msi_config_write()).
  private mutating func fixUpMSIControl(msi start: Int, isEnabled: Bool, limit: Int) {
    let at = start + MSI.control
    var control = UInt16(shadow[at]) | UInt16(shadow[at + 1]) << 8
    if !isEnabled { control &= ~MSI.enable }
    if Int((control & MSI.multipleEnableMask) >> 4) > limit {
      control = control & ~MSI.multipleEnableMask | UInt16(limit) << 4
    }
    shadow[at] = UInt8(control & 0xff)
    shadow[at + 1] = UInt8(control >> 8)
    function.writeConfig(at, control)
  }

  // MARK: Bits

  private func merged(at position: Int, count: Int) -> UInt32 {
    let virtualBits = bits(of: virtual, at: position, count: count)
    let shadowBits = bits(of: shadow, at: position, count: count) & virtualBits
    guard virtualBits != Self.ones(count) else { return shadowBits }
    return physical(at: position, count: count) & ~virtualBits | shadowBits
  }

  /// vfio_default_config_write(). Physical bits are read, changed and written back, with the effect
  /// that bits which a 1 clears are cleared although they cannot be written.
  private mutating func store(_ value: UInt32, at position: Int, count: Int) {
    let writableBits = bits(of: writable, at: position, count: count)
    let virtualBits = bits(of: virtual, at: position, count: count)
    let toShadow = writableBits & virtualBits
    for index in 0..<count {
      let mask = UInt8(truncatingIfNeeded: toShadow >> (index * 8))
      let byte = UInt8(truncatingIfNeeded: value >> (index * 8))
      shadow[position + index] = shadow[position + index] & ~mask | byte & mask
    }
    let toFunction = writableBits & ~virtualBits
    guard toFunction != 0 else { return }
    let current = physical(at: position, count: count)
    writePhysical(current & ~toFunction | value & toFunction, at: position, count: count)
  }

  func physical(at position: Int, count: Int) -> UInt32 {
    switch count {
    case 1: UInt32(function.readConfig(position, as: UInt8.self))
    case 2: UInt32(function.readConfig(position, as: UInt16.self))
    default: function.readConfig(position, as: UInt32.self)
    }
  }

  private func writePhysical(_ value: UInt32, at position: Int, count: Int) {
    switch count {
    case 1: function.writeConfig(position, UInt8(truncatingIfNeeded: value))
    case 2: function.writeConfig(position, UInt16(truncatingIfNeeded: value))
    default: function.writeConfig(position, value)
    }
  }

  private func bits(of bytes: [UInt8], at position: Int, count: Int) -> UInt32 {
    var value: UInt32 = 0
    for index in 0..<count { value |= UInt32(bytes[position + index]) << (index * 8) }
    return value
  }

  private static func ones(_ count: Int) -> UInt32 { .max >> (32 - UInt32(count) * 8) }

  func shadowValue(_ position: Int) -> UInt32 { bits(of: shadow, at: position, count: 4) }

  mutating func setShadow(_ position: Int, _ value: UInt32) {
    for index in 0..<4 {
      shadow[position + index] = UInt8(truncatingIfNeeded: value >> (index * 8))
    }
  }
}
