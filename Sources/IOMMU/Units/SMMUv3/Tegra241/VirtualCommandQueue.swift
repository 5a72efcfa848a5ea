// SPDX-License-Identifier: Apache-2.0

// One command queue of a virtual interface (LVCMDQ): a ring of commands in memory, like the command
// queue of an SMMUv3 (IHI 0070 §3.5.1, §7.1), and the state behind its registers. The queue's
// virtual interface owns it and guards it with its lock.
//
// Software stores into the registers without a notification, so the interface polls them. A store
// that another store overwrites before the next poll has no effect. Software that depends on an
// effect waits for it: for STATUS after CONFIG, for CONS_INDX after PROD_INDX.

struct VirtualCommandQueue: Sendable {
  /// CERROR_…: the reason why a command was not executed.
  typealias Failure = SMMUv3Unit.CommandError.Reason

  /// The result of a poll.
  struct PollResult {
    var hasChanged = false
    var hasFailed = false
  }

  /// The maximum number of commands that one poll executes, so that a queue that is always full
  /// does not block the other queues.
  private static let commandsPerPoll = 128

  /// VCMDQ_BASE: ADDR, and LOG2SIZE, log2 of the number of entries.
  private let base: PhysicalAddress
  private let sizeBits: Int
  private var isEnabled = false
  /// RD, with the wrap bit above the index.
  private var consumer: UInt32 = 0
  /// ERR, while the error is active.
  private var failure: Failure?
  /// CMDQ_ERR of GERROR.
  private var error: UInt32 = 0
  /// CMDQ_ERR of GERRORN.
  private var acknowledgement: UInt32 = 0

  init(base: PhysicalAddress, sizeBits: Int) {
    self.base = base
    self.sizeBits = sizeBits
  }

  var hasError: Bool { error != acknowledgement }

  /// Stores the initial values into the registers of a new queue.
  func reset(_ registers: VirtualQueueRegisters) {
    for register in VirtualQueueRegisters.Register.allCases { registers[register] = 0 }
  }

  /// Reads the registers, executes new commands and updates the registers.
  /// - Parameter execute: executes the command at an address; returns the reason if it cannot.
  mutating func poll(
    _ registers: VirtualQueueRegisters, _ execute: (PhysicalAddress) -> Failure?
  ) -> PollResult {
    var result = PollResult()
    result.hasChanged = readConfiguration(registers)
    if readAcknowledgement(registers) { result.hasChanged = true }
    if isEnabled, !hasError {
      result.hasFailed = consume(registers, execute, &result.hasChanged)
    }
    registers.update(.status, to: isEnabled ? 1 : 0)
    if isEnabled { registers.update(.consumer, to: consumerRegister) }
    // GERROR is stored after CONS_INDX, so software that sees an error also sees its reason.
    registers.update(.error, to: error)
    return result
  }

  private var indexMask: UInt32 { 2 << UInt32(sizeBits) - 1 }
  private var consumerRegister: UInt32 { consumer | UInt32(failure?.rawValue ?? 0) << 24 }

  private mutating func readConfiguration(_ registers: VirtualQueueRegisters) -> Bool {
    let enable = registers[.configuration] & 1 != 0
    guard enable != isEnabled else { return false }
    isEnabled = enable
    if enable { consumer = registers[.consumer] & indexMask }
    return true
  }

  private mutating func readAcknowledgement(_ registers: VirtualQueueRegisters) -> Bool {
    let acknowledgement = registers[.acknowledgement] & 1
    guard acknowledgement != self.acknowledgement else { return false }
    self.acknowledgement = acknowledgement
    if !hasError { failure = nil }
    return true
  }

  /// - Returns: whether a command failed. CONS_INDX still points to that command.
  private mutating func consume(
    _ registers: VirtualQueueRegisters, _ execute: (PhysicalAddress) -> Failure?,
    _ hasChanged: inout Bool
  ) -> Bool {
    let producer = registers[.producer] & indexMask
    var count = 0
    while consumer != producer, count < Self.commandsPerPoll {
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
