// One command queue of a virtual interface (LVCMDQ): a ring of commands in memory, as an SMMUv3's own
// (IHI 0070 §3.5.1, §7.1), and what its registers hold.
//
// Software stores into registers without a word, so the queue is looked at. A store that is followed by
// another before that has never been: software that has to know waits, for STATUS after CONFIG, for
// CONS_INDX after PROD_INDX.

struct VirtualCommandQueue: Sendable {
  /// CERROR_…: why a command was not executed.
  typealias Failure = SMMUv3Unit.CommandError.Reason

  /// What a look found.
  struct Progress {
    var hasChanged = false
    var hasFailed = false
  }

  /// Of one look: a queue that is kept full must not keep others waiting.
  private static let mostCommands = 128

  /// VCMDQ_BASE: ADDR, and LOG2SIZE of entries.
  private let base: PhysicalAddress
  private let sizeBits: Int
  private var isEnabled = false
  /// RD, whose highest bit tells one round from the next.
  private var consumer: UInt32 = 0
  /// ERR, as long as the error is active.
  private var failure: Failure?
  /// CMDQ_ERR of GERROR and of GERRORN.
  private var error: UInt32 = 0
  private var acknowledgement: UInt32 = 0

  init(base: PhysicalAddress, sizeBits: Int) {
    self.base = base
    self.sizeBits = sizeBits
  }

  var hasError: Bool { error != acknowledgement }

  /// Of the registers of a queue that has just been made.
  func reset(_ registers: VirtualQueueRegisters) {
    for register in VirtualQueueRegisters.Register.allCases { registers[register] = 0 }
  }

  /// Does what the registers ask for.
  /// - Parameter execute: the command at an address; gives why it cannot be.
  mutating func look(
    at registers: VirtualQueueRegisters, _ execute: (PhysicalAddress) -> Failure?
  ) -> Progress {
    var progress = Progress()
    progress.hasChanged = followConfiguration(registers)
    if followAcknowledgement(registers) { progress.hasChanged = true }
    if isEnabled, !hasError {
      progress.hasFailed = consume(registers, execute, &progress.hasChanged)
    }
    registers.keep(isEnabled ? 1 : 0, in: .status)
    if isEnabled { registers.keep(consumerRegister, in: .consumer) }
    // Who sees an error sees its reason.
    registers.keep(error, in: .error)
    return progress
  }

  private var indexMask: UInt32 { 2 << UInt32(sizeBits) - 1 }
  private var consumerRegister: UInt32 { consumer | UInt32(failure?.rawValue ?? 0) << 24 }

  private mutating func followConfiguration(_ registers: VirtualQueueRegisters) -> Bool {
    let enable = registers[.configuration] & 1 != 0
    guard enable != isEnabled else { return false }
    isEnabled = enable
    if enable { consumer = registers[.consumer] & indexMask }
    return true
  }

  private mutating func followAcknowledgement(_ registers: VirtualQueueRegisters) -> Bool {
    let acknowledgement = registers[.acknowledgement] & 1
    guard acknowledgement != self.acknowledgement else { return false }
    self.acknowledgement = acknowledgement
    if !hasError { failure = nil }
    return true
  }

  /// - Returns: whether a command could not be executed. It is the next one still.
  private mutating func consume(
    _ registers: VirtualQueueRegisters, _ execute: (PhysicalAddress) -> Failure?,
    _ hasChanged: inout Bool
  ) -> Bool {
    let producer = registers[.producer] & indexMask
    var count = 0
    while consumer != producer, count < Self.mostCommands {
      hasChanged = true
      let index = UInt64(consumer & indexMask >> 1)
      failure = execute(PhysicalAddress(base.rawValue + index * 16))
      if failure != nil {
        error ^= 1
        return true
      }
      consumer = (consumer &+ 1) & indexMask
      count += 1
    }
    return false
  }
}
